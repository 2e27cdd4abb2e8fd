#!/bin/bash
# Removes what contrib/quickstart.sh installed: locks all users, ends the daemon, unmounts the view, removes the program,
# its manual pages, completions and systemd unit. Mail, key records, the site secret and the configuration stay where
# they are: after another contrib/quickstart.sh everything is as before. Run it as root:
#
#     sudo contrib/uninstall.sh
set -euo pipefail

program=/usr/local/sbin/mailcryptfs
share=/usr/local/share
config=/etc/mailcryptfs/mailcryptfs.toml
pidfile=/run/mailcryptfs/daemon.pid

[ "$(id -u)" = 0 ] || {
	echo "uninstall.sh: run it as root: sudo contrib/uninstall.sh" >&2
	exit 1
}

setting() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$config" 2>/dev/null || true; }

# end_background ends the daemon that quickstart.sh started without systemd.
end_background() {
	local pid tries
	pid=$(cat "$pidfile" 2>/dev/null) || return 0
	case $(readlink "/proc/$pid/exe" 2>/dev/null) in
	"$program" | "$program (deleted)") kill "$pid" ;;
	*) return 0 ;;
	esac
	for ((tries = 0; tries < 200; tries++)); do
		[ -d "/proc/$pid" ] || return 0
		sleep 0.1
	done
	echo "uninstall.sh: the daemon (process $pid) does not end" >&2
	exit 1
}

if [ -x "$program" ] && "$program" status >/dev/null 2>&1; then
	"$program" lock --all
fi
if [ -d /run/systemd/system ] && [ -e /etc/systemd/system/mailcryptfs.service ]; then
	systemctl disable --quiet --now mailcryptfs || true
fi
end_background
rm -f "$pidfile"

keyring=$(setting keyring)
if [ -n "$keyring" ] && mountpoint -q "$keyring" && [ "$(findmnt -n -o SOURCE "$keyring")" = mailcryptfs-keyring ]; then
	umount "$keyring"
fi

rm -f "$program" "$share"/man/man1/mailcryptfs.1 "$share"/man/man1/mailcryptfs-*.1 "$share"/man/man5/mailcryptfs.toml.5 \
	"$share"/bash-completion/completions/mailcryptfs "$share"/zsh/site-functions/_mailcryptfs \
	/etc/systemd/system/mailcryptfs.service
[ ! -d /run/systemd/system ] || systemctl daemon-reload

echo "Removed the program, its manual pages, completions and unit. Kept:"
for path in "$config" "$(setting site_secret)" "$(setting store)"; do
	[ -z "$path" ] || [ ! -e "$path" ] || echo "   $path"
done
view=$(setting view)
if [ -n "$view" ] && [ -d "$view" ]; then
	echo "   $view (the closed mount point; to remove it: chattr -i $view && rmdir $view)"
fi
