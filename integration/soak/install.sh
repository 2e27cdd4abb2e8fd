#!/bin/sh
# Installs the Debian packages that the tests of this directory need: those of the tests with Dovecot.
exec sh "$(dirname "$0")/../dovecot/install.sh"
