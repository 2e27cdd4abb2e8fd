#!/bin/bash
# Builds and installs mailcryptfs on Debian 12 (and its kin), prepares a site with safe defaults, starts the daemon, and
# proves with a sample mailbox what it is for. Run it as root from a checkout:
#
#     sudo contrib/quickstart.sh
#
# It can be run again: what is there is kept, the program is updated, the sample is repeated. It changes:
#     /usr/local/sbin/mailcryptfs, manual pages and completions below /usr/local/share
#     /etc/systemd/system/mailcryptfs.service (where there is systemd)
#     /etc/mailcryptfs (configuration, site secret), /var/lib/mailcryptfs/store, /srv/mail (the mount point)
# contrib/uninstall.sh removes the first two again and never touches mail, keys or the site secret.
#
# Without systemd the daemon runs in the background, with /run/mailcryptfs/daemon.pid and /var/log/mailcryptfs.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib/toolchain.sh
. contrib/lib/toolchain.sh

config=/etc/mailcryptfs/mailcryptfs.toml
program=/usr/local/sbin/mailcryptfs
share=/usr/local/share
pidfile=/run/mailcryptfs/daemon.pid
logfile=/var/log/mailcryptfs.log
sample=quickstart-sample       # the user of the sample mailbox
domain=quickstart.invalid      # and the domain, where users have one
password="quickstart password" # and the password; the mailbox holds nothing but samples
work=

step() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
fail() {
	printf '\nquickstart.sh: %s\n' "$*" >&2
	exit 1
}
setting() { # value of a string key of the configuration
	sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$config"
}
have_systemd() { [ -d /run/systemd/system ]; }

cleanup() {
	[ -z "$work" ] || rm -rf "$work"
}
trap cleanup EXIT

check_machine() {
	step "Looking at this machine"
	[ "$(id -u)" = 0 ] || fail "run it as root: sudo contrib/quickstart.sh"
	command -v apt-get >/dev/null || fail "this script is for Debian and its kin; elsewhere follow the README"
	if [ ! -c /dev/fuse ]; then
		modprobe fuse 2>/dev/null || true
		[ -c /dev/fuse ] || fail "there is no /dev/fuse: load the kernel module fuse (in a container: let it in)"
	fi
	find_go || exit 1
	say "$(go version), $(uname -sr)"
	work=$(mktemp -d)
	chmod 755 "$work"
}

build() {
	step "Building and installing $program"
	CGO_ENABLED=0 go build -trimpath -o "$work/mailcryptfs" ./cmd/mailcryptfs
	install -D -m 0755 "$work/mailcryptfs" "$program"
	install -d "$share/man/man1" "$share/man/man5" "$share/bash-completion/completions" "$share/zsh/site-functions"
	install -m 0644 contrib/man/*.1 "$share/man/man1"
	install -m 0644 contrib/man/*.5 "$share/man/man5"
	"$program" completion bash >"$share/bash-completion/completions/mailcryptfs"
	"$program" completion zsh >"$share/zsh/site-functions/_mailcryptfs"
	if [ -d /etc/systemd/system ]; then
		install -m 0644 contrib/systemd/mailcryptfs.service /etc/systemd/system/mailcryptfs.service
	fi
	say "$("$program" version | head -n 1)"
}

setup() {
	step "Preparing the site"
	"$program" setup | sed '/^$/,$d; s/^/   /' # its next steps are taken below
	"$program" serve --check-config | sed 's/^/   /'
	store=$(setting store) view=$(setting view)
}

running() { "$program" status >/dev/null 2>&1; }

start() {
	if have_systemd; then
		systemctl daemon-reload
		systemctl enable --quiet mailcryptfs
		systemctl restart mailcryptfs # the one that runs may be an older program; nobody is locked by it
	else
		stop_background
		install -d /run/mailcryptfs
		# shellcheck disable=SC2016 # expanded by the inner shell
		setsid --fork bash -c 'echo $$ >"$1"; exec "$2" serve' - "$pidfile" "$program" >>"$logfile" 2>&1 </dev/null
	fi
	local tries
	for ((tries = 0; tries < 150; tries++)); do
		! running || break
		sleep 0.2
	done
	running || fail "the daemon does not answer; its log: $(have_systemd && echo 'journalctl -u mailcryptfs' || echo "$logfile")"
}

# stop_background ends the daemon that an earlier run of this script started.
stop_background() {
	local pid tries
	pid=$(cat "$pidfile" 2>/dev/null) || return 0
	[ "$(readlink "/proc/$pid/exe" 2>/dev/null)" != "$program" ] &&
		[ "$(readlink "/proc/$pid/exe" 2>/dev/null)" != "$program (deleted)" ] && return 0
	kill "$pid" 2>/dev/null || return 0
	for ((tries = 0; tries < 200; tries++)); do
		[ -d "/proc/$pid" ] || return 0
		sleep 0.1
	done
	fail "the daemon (process $pid) does not end"
}

# find_agent finds an ordinary maildir delivery agent. Without one, Debian's procmail is unpacked for the sample and not
# installed.
find_agent() {
	if command -v maildrop >/dev/null; then
		agent=maildrop
	elif command -v procmail >/dev/null; then
		agent=procmail
	else
		agent=procmail
		apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5 -qq update
		(cd "$work" && apt-get -qq download procmail 2>/dev/null && dpkg -x procmail_*.deb procmail)
		chmod 755 "$work/procmail/usr/bin/procmail"
		PATH="$work/procmail/usr/bin:$PATH"
	fi
}

# deliver gives the message on standard input to the delivery agent, which runs as the user mail.
deliver() {
	if [ $agent = maildrop ]; then
		printf 'to "%s"\n' "$maildir" >"$work/filter"
		chown mail "$work/filter"
		chmod 600 "$work/filter"
		runuser -u mail -- maildrop "$work/filter"
	else
		runuser -u mail -- "$(command -v procmail)" "DEFAULT=$maildir/" LOGFILE= /dev/null
	fi
}

message() { # number
	printf 'From: Sample Sender <sender@example.org>\nTo: %s\nSubject: Secret %s-%s\nMessage-ID: <%s-%s@example.org>\n\nThe body of message %s says %s.\n' \
		"$sample" "$marker" "$1" "$marker" "$1" "$1" "$marker"
}

verb() { "$program" "$@" 3<<<"$password"; }

new_messages() { find "$maildir/new" -type f | sort; }

# place finds the sample's name and directory by the template of the configuration.
place() {
	local template
	template=$(setting user)
	local=$sample
	case $template in *%d*) sample=$sample@$domain ;; esac
	home=${template//%u/$sample}
	home=${home//%n/$local}
	home=$view/${home//%d/$domain}
	maildir=$home/Maildir
}

prepare_sample() {
	step "A sample mailbox"
	find_agent
	touch "$work/began"
	place
	marker=marker-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
	if "$program" status --user "$sample" >/dev/null 2>&1; then
		say "$sample is enrolled from an earlier run"
	else
		verb enroll "$sample" --password-fd 3 | sed 's/^/   /'
	fi
	mkdir -p "$(dirname "$home")"
	install -d -o mail -g mail -m 0700 "$home" "$maildir" "$maildir"/{cur,new,tmp}
	find "$maildir/new" "$maildir/cur" -type f -delete
	"$program" lock "$sample" | sed 's/^/   /'
}

prove_delivery() {
	step "Delivering with $agent while $sample is locked"
	local n
	for n in 1 2 3; do message $n | deliver; done
	[ "$(new_messages | wc -l)" = 3 ] || fail "not all messages arrived"
	say "three messages arrived, and the view shows them with their sizes:"
	find "$maildir/new" -type f -printf '   %s bytes  %f\n'
}

# written_below_store finds what this sample wrote; key records carry the user's name and are left out.
written_below_store() { find "$store" -path "$store/.mailcryptfs" -prune -o -newer "$work/began" "$@"; }

prove_store() {
	step "What the store shows"
	say "below $store, to whoever takes the disk or the backup:"
	written_below_store -type f -printf '%s bytes  %P\n' | tail -n 3 | cut -c 1-100 | sed 's/^/   /; s/$/…/'
	if written_below_store -type f -exec grep -lF -e "$marker" {} + | grep -q . ||
		written_below_store -print | grep -qF -e "$local" -e "$marker"; then
		fail "the store holds clear text"
	fi
	say "no subject, no body, no file name: \"$marker\" occurs nowhere"
}

prove_locked() { # what
	local file answer
	file=$(new_messages | head -n 1)
	if answer=$(cat "$file" 2>&1); then
		fail "the message could be read: $file"
	fi
	case $answer in
	*"Permission denied"*) say "cat: ${answer##*: }" ;;
	*) fail "reading failed, but not with \"Permission denied\": $answer" ;;
	esac
	[ "$(new_messages | wc -l)" = 3 ] || fail "the mailbox looks different"
	say "the mailbox still shows three messages; only their content is closed, for root too"
}

prove_unlocked() {
	local count
	count=$(grep -rlF -e "$marker" "$maildir/new" | wc -l)
	[ "$count" = 3 ] || fail "$count of 3 messages can be read"
	say "all three messages can be read:"
	grep -rhF -e "Subject: Secret $marker" "$maildir/new" | sort | sed 's/^/   /'
}

sample() {
	if [ "$(setting delivery)" != sealed ]; then
		step "No sample: the configuration says delivery = \"$(setting delivery)\""
		return
	fi
	prepare_sample
	prove_delivery
	prove_store
	step "Reading while $sample is locked, after the end of the delivery epoch"
	say "(the daemon wipes the delivery key after $(setting epoch), or when it is told to lock the user, as now)"
	"$program" lock "$sample" | sed 's/^/   /'
	prove_locked
	step "Unlocking with the password"
	verb unlock "$sample" --password-fd 3 | sed 's/^/   /'
	prove_unlocked
	step "Locking again"
	"$program" lock "$sample" | sed 's/^/   /'
	prove_locked
}

finish() {
	step "Done: mailcryptfs is installed, and a message is closed to everybody while its user is locked"
	cat <<-NEXT
		   1. Copy $(setting site_secret) to a safe place outside this machine
		      (mailcryptfs recovery paper prints it): without it nobody can read the mail again.
		   2. Enrol users:              mailcryptfs enroll USER
		   3. Point the mail server at: $view
		   The configuration is $config (man mailcryptfs.toml); the verbs: mailcryptfs --help.
	NEXT
}

check_machine
build
setup
step "Starting the daemon"
start
"$program" status | sed 's/^/   /'
sample
finish
