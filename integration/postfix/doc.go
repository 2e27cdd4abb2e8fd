// Package postfix tests views of the profile "maildir" beneath other programs than Dovecot, as Debian ships them: Postfix
// with virtual(8) and local(8), maildrop and procmail, each with exactly the files of contrib/postfix, and mutt and mbsync
// as a single user's programs.
package postfix
