// Package writers is a mail server's work, done by processes that keep accounts of it: deliveries, logs that are appended
// to, records that are changed in place, flags, links, folders, files that are replaced, readers of mapped files, and the
// changes and rotations of keys that go on beside them. Whatever the store has gone through since (a killed daemon, a power cut),
// [Work.Check] says what of the accounts is not true any more.
//
// Accounts lie on another filesystem. Each line begins with the time at which it was written, by a clock that the test
// can keep (see [Clock]); a line for something that was acknowledged is written after that, and a line for something that
// begins is written before.
package writers
