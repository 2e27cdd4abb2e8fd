// Package cyrus tests the view beneath Debian 12's unmodified Cyrus 3.6, with the configuration that is shipped in
// contrib/cyrus and contrib/pam-configs, and with saslauthd and the PAM module: LMTP with Sieve, IMAP, POP3, ManageSieve and
// the administrator's programs, for mailbox directories by user and by id, with and without virtual domains. Users are
// locked all the time, unlocked all the time, or both in turn. The measure is the same Cyrus on plain ext4.
//
// Cyrus runs in a Debian of its own, which install.sh makes once and keeps: its package excludes Dovecot's. Each test has
// a root of its own made of that directory, read-only, and of directories in memory; the view and the socket of the PAM module
// are mounted and made in it. Ports are on the loopback interface.
//
// For an unlocked user there is no difference: every answer of the script, the mailbox and syslog are the same. For a
// locked user who gets into a session without the key, these remain, all of them meant:
//
//   - FETCH of a text gives "* OK Message n no longer exists" and no text; SEARCH in texts finds nothing; both end with OK.
//     Everything else works as on ext4, ENVELOPE and SEARCH of headers too: they come from cyrus.cache, which Cyrus needs
//     for each delivery.
//   - COPY and MOVE to another user are refused with NO, with a line in syslog.
//   - RENAME of a user with directories by user is refused with NO. With directories by id it works, and the messages are
//     readable again when both users have been unlocked.
//   - squatter ends with an error at a locked user, and reconstruct at a mailbox whose index or cache is lost; both change
//     nothing.
//
// In any case:
//
//   - Links across users fail, and Cyrus copies.
//   - A delivery between whose steps its user is locked is deferred.
//   - While the daemon is dead deliveries are answered with 451, or the connection ends, and IMAP commands with NO.
package cyrus
