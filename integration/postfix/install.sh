#!/bin/sh
# Installs the mail programs of Debian that the tests of this directory run.
exec "$(dirname "$0")/../harness/packages.sh" \
	postfix maildrop procmail mutt isync db5.3-util gcc make libc6-dev libpam0g-dev
