// Package cli tests the verbs of mailcryptfs against a running daemon: what they print, how they end, and what the daemon
// does about mounts, signals and restarts. It holds nothing but tests.
package cli
