// Package pattern holds what a mail server asks of a filesystem, one pattern of system calls at a time.
//
// A pattern knows nothing of mounts, clocks or ciphers: it works in a directory that it is given, through plain system
// calls (package os would add calls of its own, such as registering each descriptor with epoll, which a mail server does
// not make). Each pattern checks, outside the measured time, that it left what it should have left, so that a filesystem
// cannot be fast by being wrong.
package pattern

// Pattern is one kind of operation to measure. All fields but Start are data for whoever runs it.
type Pattern struct {
	Name string // short, stable: names the pattern on the command line and in results
	Doc  string // what one operation does, for the report

	// MinOps and MaxOps bound the operations of one batch, over all workers together. A runner takes as many as fit into its
	// time; MinOps == MaxOps fixes the number.
	MinOps, MaxOps int

	Workers []int // numbers of concurrent workers to measure with
	WarmOps int   // operations per worker to run, unmeasured, right before a batch: the same ones come again in it
	Cold    bool  // all caches are to be dropped between Start and the first operation
	Deliver bool  // opens no existing private file: works for a locked user as well
	Bytes   int   // bytes moved by one operation, 0 when the rate that matters is operations

	Goals map[int]float64 // wanted ratio to plain ext4 by number of workers

	// Start prepares a batch of n operations in the mailbox, unmeasured. Start is called at the same time for different
	// mailboxes, never for the same one.
	Start func(b *Box, n int) (*Run, error)
}

// Run is one prepared batch in one mailbox.
type Run struct {
	// Op does operation i, 0 ≤ i < n, in order, from one goroutine.
	Op func(i int) error
	// Finish checks what n operations left and removes what later batches do not need. It is called once.
	Finish func() error
}

// Parallel are the numbers of workers that patterns are measured with unless they say otherwise.
func Parallel() []int { return []int{1, 4, 16} }

// Settings are the sizes of the fixtures.
type Settings struct {
	Entries    int // entries of the large folder
	Sequential int // bytes of the large file
}

// All returns the patterns, cheap ones first.
func All(s Settings) []Pattern {
	var all []Pattern
	all = append(all, deliveries()...)
	all = append(all, reads()...)
	all = append(all, appends()...)
	all = append(all, locks()...)
	all = append(all, names()...)
	all = append(all, rewrites()...)
	all = append(all, mix())
	all = append(all, sequential(s.Sequential)...)
	all = append(all, listings(s.Entries)...)
	return all
}
