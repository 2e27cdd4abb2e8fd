#!/bin/sh
# Installs the Debian packages that the tests of this directory need: Dovecot
# with IMAP, POP3, LMTP, Sieve and a search index, what PAM logins need, and mbsync. Safe to run again. No
# service is started: the tests start an instance of their own.
set -eu

packages="dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-sieve
	dovecot-lucene db5.3-util gcc make libc6-dev libpam0g-dev isync python3-yaml"

missing=
for p in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

# invoke-rc.d asks this file; 101 means "do not start anything".
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
lock="-o DPkg::Lock::Timeout=600"
apt-get $lock -qq update
# shellcheck disable=SC2086 # the list is meant to be split
apt-get $lock -qq -y --no-install-recommends install $missing
