// Package trap runs a daemon whose system calls a test can watch, let fail, shorten or swallow, without a hook in the
// daemon: a seccomp filter hands the calls of chosen kinds to the test before the kernel does them (seccomp_unotify(2)).
// The daemon is the real binary on a real filesystem.
//
// What a trap cannot do is let close(2) fail: the kernel closes the descriptor even then, and nobody else can do that in
// the daemon's place.
package trap
