#!/bin/sh
# Installs what the tests of this directory need: a C compiler with the checkers,
# and the real PAM hosts.
exec "$(dirname "$0")/../harness/packages.sh" \
	gcc make libc6-dev libpam0g-dev clang-tools valgrind pamtester sasl2-bin dovecot-core dovecot-imapd \
	db5.3-util passwd
