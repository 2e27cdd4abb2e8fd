// Package crash kills the daemon at random moments while a mail server's work goes on (package writers), starts it again
// over the stale mount, and checks that everything which was acknowledged is there, whole and only once, and that every
// acknowledged key opens. In every fourth round the machine loses its power as well: the filesystem of the store forgets
// what was not synced.
//
// CRASH_ROUNDS sets the number of rounds; 8 is the short form that every run of the tests does.
package crash
