// Package client speaks IMAP and LMTP with servers under test, line by line: tests compare what two servers say, so that
// no answer may be interpreted on the way. Every exchange has a time limit; a server that is too slow for it fails the
// test. It has the mail too that tests of several servers deliver and look for.
package client
