#!/bin/bash
# Has mailcryptfs follow a password that a user changed in PostfixAdmin. In config.local.php:
#
#     $CONF['mailbox_postpassword_script'] = 'sudo /usr/local/lib/mailcryptfs/postfixadmin.sh';
#
# PostfixAdmin then asks for the old password at each change, and gives this script the arguments USER DOMAIN, and on
# standard input old and new password, each with a zero byte after it. Exit status: that of mailcryptfs passwd; 0 also for a
# user who has no key.
set -u
mailcryptfs=${MAILCRYPTFS:-/usr/local/sbin/mailcryptfs}

[ $# -ge 1 ] || { echo "usage: $0 USER [DOMAIN]" >&2; exit 64; }
if ! { IFS= read -r -d '' old && IFS= read -r -d '' new; }; then
	echo "old and new password are missing on standard input" >&2
	exit 64
fi

# printf is part of the shell: no password shows in a list of processes.
printf '%s\n%s\n' "$old" "$new" | "$mailcryptfs" passwd --stdin -- "$1"
status=$?
[ "$status" = 67 ] && exit 0
exit "$status"
