#!/bin/bash
# Changes a password of docker-mailserver and has mailcryptfs follow: instead of "setup email update USER", run
#
#     docker-mailserver.sh USER
#
# on the host. It asks for old and new password on the terminal; programs write them to standard input, one on each line.
# SETUP says how to call setup in the container. If the account cannot be changed, the key is changed back.
set -u
mailcryptfs=${MAILCRYPTFS:-/usr/local/sbin/mailcryptfs}
read -r -a setup <<<"${SETUP:-docker exec -i mailserver setup}"

[ $# = 1 ] || { echo "usage: $0 USER" >&2; exit 64; }
user=$1
[ -t 0 ] && echo "Old password, then new password of $user (they are not shown):" >&2
if ! { IFS= read -r -s old && IFS= read -r -s new; }; then
	echo "old and new password are missing" >&2
	exit 64
fi

# First the key: that finds out whether the old password is right.
printf '%s\n%s\n' "$old" "$new" | "$mailcryptfs" passwd --stdin -- "$user"
status=$?
[ "$status" = 0 ] || [ "$status" = 67 ] || exit "$status"

# setup asks for the password, once or twice.
printf '%s\n%s\n' "$new" "$new" | "${setup[@]}" email update "$user"
failed=$?
[ "$failed" = 0 ] && exit 0
if [ "$status" = 0 ]; then
	printf '%s\n%s\n' "$new" "$old" | "$mailcryptfs" passwd --stdin -- "$user" >&2
fi
exit "$failed"
