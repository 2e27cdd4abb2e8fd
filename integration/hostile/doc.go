// Package hostile holds tests against those who mean harm: somebody who changes the store behind the daemon's back, users
// who try names and links, peers that send rubbish to its sockets. The mutator prints its seed; with -hostile.seed and
// -hostile.batches a finding comes again, and with more batches it runs for as long as one likes.
package hostile
