#!/bin/sh
# packages.sh PACKAGE...: installs those Debian packages that are missing. No
# service is started: the tests start instances of their own.
set -eu

missing=
for p; do
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
patient="-o DPkg::Lock::Timeout=600 -o Acquire::Retries=5"
# shellcheck disable=SC2086 # lists are meant to be split
apt-get $patient -qq update
# shellcheck disable=SC2086
apt-get $patient -qq -y --no-install-recommends install $missing
