#!/bin/sh
# Installs what the tests of this directory need on Debian.
exec "$(dirname "$0")/../harness/packages.sh" e2fsprogs mount util-linux
