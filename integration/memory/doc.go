// Package memory looks for secrets where none may be: in the daemon's memory after a lock, in pages that could reach the disk,
// in logs, messages, argument lists and environments, for every verb there is. Tests of other packages find secrets in a
// process with it too.
package memory
