#!/bin/sh
# enter.sh DIR COMMAND...: runs a command in the private surroundings DIR. It is
# started in a mount namespace of its own, whose mounts nobody else sees. DIR/binds
# lists directories of the machine, one a line, in whose place DIR's of the same
# path are put; syslog goes to the socket DIR/log.
set -eu
here=$1
shift
while read -r path; do
	mount -n --rbind "$here$path" "$path"
done <"$here/binds"
mkdir -p "$here/dev"
mount -n -t tmpfs -o mode=755 none "$here/dev"
for device in null zero full random urandom tty; do
	: >"$here/dev/$device"
	mount -n --bind "/dev/$device" "$here/dev/$device"
done
mkdir -m 1777 "$here/dev/shm"
mkdir "$here/dev/pts"
mount -n --bind /dev/pts "$here/dev/pts"
ln -s pts/ptmx "$here/dev/ptmx"
ln -s /proc/self/fd "$here/dev/fd"
: >"$here/dev/log"
mount -n --bind "$here/log" "$here/dev/log"
mount -n --rbind "$here/dev" /dev
cd /
exec "$@"
