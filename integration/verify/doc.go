// Package verify tests "mailcryptfs verify" as administrators run it: beside a daemon at work and without one, on whole
// stores and on damaged ones.
package verify
