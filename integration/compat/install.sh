#!/bin/sh
# Installs what the tests of this directory need on Debian.
exec "$(dirname "$0")/../harness/packages.sh" age python3 python3-cryptography
