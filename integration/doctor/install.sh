#!/bin/sh
# Installs what the tests of this directory need on Debian. Does nothing when all of it is there.
set -eu
missing=
for package in dovecot-core e2fsprogs mount util-linux; do
	dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -z "$missing" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
