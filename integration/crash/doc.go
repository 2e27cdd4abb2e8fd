// Package crash kills the daemon at random moments while writers are busy, starts it again over the stale mount, and
// checks that everything which an fsync acknowledged is there, whole and only once. The writers keep their accounts on
// another filesystem.
//
// CRASH_ROUNDS sets the number of rounds; 20 is the short form that every run of the tests does.
package crash
