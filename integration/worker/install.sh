#!/bin/sh
# Installs the Debian packages that the tests of this directory need. No service
# is started: the tests run a Dovecot of their own on the loopback interface.
exec sh "$(dirname "$0")/../pam/install.sh"
