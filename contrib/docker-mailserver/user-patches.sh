#!/bin/bash
# For docker-mailserver 15 (Dovecot 2.3): install as docker-data/dms/config/user-patches.sh. It runs at each start of the
# container, before the servers, and does nothing twice.
set -euo pipefail

root=/srv/mailcryptfs
auth=/etc/dovecot/conf.d/auth-passwdfile.inc

# With compose.inside.yaml the daemon runs here.
if [ -x /usr/local/sbin/mailcryptfs ]; then
	mkdir -p /run/mailcryptfs-pam
	mailcryptfs setup
	cat >/etc/supervisor/conf.d/mailcryptfs.conf <<-'END'
		[program:mailcryptfs]
		command=/usr/local/sbin/mailcryptfs serve
		autorestart=true
		startsecs=1
	END
	supervisorctl reread
	supervisorctl add mailcryptfs
	for _ in $(seq 100); do
		mountpoint -q "$root/view/." && break
		sleep 0.1
	done
fi

# Mail goes into the view. What docker-mailserver made for its accounts before this script ran, directories and Sieve
# scripts, goes with it.
if [ ! -L /var/mail ]; then
	if [ -n "$(find /var/mail -type f \( -path '*/cur/*' -o -path '*/new/*' \) -print -quit)" ]; then
		echo "mailcryptfs: there is mail in /var/mail: move it into $root/view first" >&2
		exit 1
	fi
	if mountpoint -q "$root/view/."; then
		find /var/mail -mindepth 1 -exec chown docker:docker {} +
		find /var/mail -mindepth 1 -maxdepth 1 -exec cp -a --no-clobber -t "$root/view" {} +
	fi
	rm -rf /var/mail
	ln -s "$root/view" /var/mail
fi

# Passwords that docker-mailserver has accepted are passed on to mailcryptfs.
cat >/etc/pam.d/mailcryptfs <<'END'
auth     required  pam_exec.so quiet expose_authtok /bin/true
auth     optional  pam_mailcryptfs.so socket=/run/mailcryptfs-pam/pam.sock
account  required  pam_permit.so
account  optional  pam_mailcryptfs.so socket=/run/mailcryptfs-pam/pam.sock
END
if ! grep -q mailcryptfs "$auth"; then
	sed -i '/^passdb {/,/^}/ s/^}/  result_success = continue-ok\n}/' "$auth"
	cat >>"$auth" <<-'END'

		passdb {
		  driver = pam
		  args = mailcryptfs
		  skip = unauthenticated
		}
	END
fi

cat >/etc/dovecot/conf.d/99-mailcryptfs.conf <<'END'
mail_temp_dir = /var/spool/mailcryptfs
auth_cache_size = 0
END
