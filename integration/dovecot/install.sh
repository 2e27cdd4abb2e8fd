#!/bin/sh
# Installs what the tests of this directory need: Debian's Dovecot with IMAP,
# POP3, LMTP, Sieve and a search index, what logins through PAM take, and mbsync.
exec "$(dirname "$0")/../harness/packages.sh" \
	dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-sieve dovecot-lucene \
	db5.3-util gcc make libc6-dev libpam0g-dev isync python3-yaml
