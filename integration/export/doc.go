// Package export tests that mail leaves a store whole: as a maildir, as mbox files, in a directory or a tar stream, with
// the daemon and without.
package export
