#!/bin/sh
# Makes the Debian 12 root directory in which the tests of this directory run
# Cyrus: its package cannot be installed beside Dovecot's, and other releases of
# Debian have another Cyrus. It is kept between runs, and used read-only; safe to
# run again. It is made beside its place and renamed, so that what is there is
# whole. Remove it, and it is made again.
#
# CYRUS_ROOT says where it lies; /var/cache/mailcryptfs-test/cyrus if not set.
set -eu

root=${CYRUS_ROOT:-/var/cache/mailcryptfs-test/cyrus}
suite=bookworm
packages="cyrus-imapd cyrus-pop3d sasl2-bin libsasl2-modules"
# Whoever changes what is installed changes this too: an older root is replaced.
made="1 $packages"

say() { echo "integration/cyrus: $*"; }
fail() {
	say "$*" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || fail "a root directory can only be made by root"

# The tests build the PAM module, with the compiler of this machine.
"$(dirname "$0")/../harness/packages.sh" debootstrap gcc make libc6-dev libpam0g-dev

# What is mounted here is seen by this script alone, and gone with it.
[ "${1:-}" = unshared ] || exec unshare --mount "$0" unshared

mkdir -p "$(dirname "$root")"
# Two runs at once: the second one waits, and finds the work done.
exec 9>"$root.lock"
flock 9
if [ "$(cat "$root/made" 2>/dev/null || true)" = "$made" ]; then
	exit 0
fi

# sources prints "address suite" of Debian's own archives that this machine uses, for the release wanted.
sources() {
	apt-get indextargets --format "\$(SITE) \$(RELEASE) \$(COMPONENT) \$(ORIGIN)" "Created-By: Packages" |
		awk -v suite="$suite" '$3 == "main" && $4 == "Debian" && ($2 == suite || index($2, suite "-") == 1) { print $1, $2 }'
}
list=$(sources)
if [ -z "$list" ]; then
	apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5 -qq update
	list=$(sources)
fi
mirror=$(echo "$list" | awk -v suite="$suite" '$2 == suite { print $1; exit }')
[ -n "$mirror" ] || fail "no source of packages of Debian 12 ($suite) is configured on this machine (/etc/apt/sources.list.d)"
proxy=
eval "$(apt-config shell proxy Acquire::http::Proxy)"
[ -z "$proxy" ] || export http_proxy="$proxy"

began=$(date +%s)
say "making $root, once, from $mirror"
# It is made in memory, for packages are synced to disk one by one.
new=$root.new
rm -rf --one-file-system "$new"
mkdir "$new" "$new/work" "$new/root"
mount -t tmpfs -o size=2g,mode=0755 none "$new/work"
work=$new/work
log=$root.log
debootstrap --variant=minbase "$suite" "$work" "$mirror" >"$log" 2>&1 || {
	tail -n 20 "$log" >&2
	fail "debootstrap failed"
}

echo "$list" | while read -r address release; do
	echo "deb $address $release main"
done >"$work/etc/apt/sources.list"
[ -z "$proxy" ] || echo "Acquire::http::Proxy \"$proxy\";" >"$work/etc/apt/apt.conf.d/proxy"
for key in Check-Valid-Until Check-Date; do # as on this machine: an archive may be frozen
	value=$(apt-config dump --format '%v' "Acquire::$key")
	[ -z "$value" ] || echo "Acquire::$key \"$value\";"
done >"$work/etc/apt/apt.conf.d/dates"
echo 'Acquire::Retries "5";' >"$work/etc/apt/apt.conf.d/retries"
echo force-unsafe-io >"$work/etc/dpkg/dpkg.cfg.d/unsafe-io"
printf 'path-exclude /usr/share/%s/*\n' doc man locale info >"$work/etc/dpkg/dpkg.cfg.d/nodoc"
printf '#!/bin/sh\nexit 101\n' >"$work/usr/sbin/policy-rc.d" # invoke-rc.d starts nothing
chmod 755 "$work/usr/sbin/policy-rc.d"
enter() { chroot "$work" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@" >>"$log" 2>&1; }
# shellcheck disable=SC2086
if ! { enter apt-get -q update && enter apt-get -q -y --no-install-recommends install $packages; }; then
	tail -n 20 "$log" >&2
	fail "the packages of Cyrus could not be installed"
fi
enter apt-get clean
rm -rf "$work"/var/lib/apt/lists/*
echo "$made" >"$work/made"
cp -a --one-file-system "$work/." "$new/root"
rm -rf --one-file-system "$root"
mv "$new/root" "$root"
umount -l "$work"
rm -rf --one-file-system "$new"
say "made in $(($(date +%s) - began)) seconds, $(du -sm "$root" | cut -f 1) MiB"
