// Package dovecot tests the view beneath Debian's unmodified Dovecot 2.3, with exactly the files that are shipped in
// contrib/dovecot, at the places that they name: LMTP with Sieve, IMAP, POP3, doveadm, full-text search, quota of both
// kinds, zlib, maildir and sdbox, virtual users who share one uid and users of the system. Users log in through PAM and
// are locked when they log out; others are locked all the time, or log in at the beginning and stay. The measure is the
// same Dovecot on plain ext4. A file for docker-mailserver is tried on Dovecot as docker-mailserver configures it.
//
// For an unlocked user there is no difference: every answer of the script is the same, and so are mailbox, quota and log.
//
// For a locked user who gets into a session without the key, these differences remain, all of them meant:
//
//   - What needs the text of a message is refused: FETCH of a header or body ends the session with BYE, SEARCH of texts,
//     SORT and THREAD give NO or BYE, and so does POP3 for RETR and TOP. ENVELOPE and BODYSTRUCTURE are among it, for the header
//     cache is private too; with sdbox dates as well, for they lie there and in the message. Everything else works as on
//     ext4: flags, UIDs, sizes, quota, COPY, MOVE, APPEND, EXPUNGE, all changes of folders, and deliveries.
//   - Dovecot logs "Permission denied" for each message that was refused, three times, and for dovecot.index.cache: eleven
//     times for one delivery with Sieve, for it tries again at each field. With meta = ["dovecot.index.cache"] there is no such
//     line at a delivery; the site secret alone then reads the header texts in that file. A search index adds its own.
//   - A message that was refused to POP3 is not marked as seen, doveadm backup and mbsync end with an error when there is
//     new mail, and their copies keep what they had.
//
// In any case:
//
//   - A command of the daemon's that converts a tree does not convert index files which a session has open; it says so and
//     does it later.
//   - While the daemon is dead Dovecot logs "Transport endpoint is not connected", deliveries are answered with 451, and
//     sessions that had the mailbox open have to log in again when the daemon is back.
package dovecot
