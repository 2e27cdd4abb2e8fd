package content

import "sync"

// parallelBlocks is the least number of blocks that is worth a goroutine of its own.
const parallelBlocks = 16

// inParallel calls f for the numbers 0 to n-1 in ranges, in two halves at once where
// that is worth it.
func inParallel(n int, f func(from, to int)) {
	if n < 2*parallelBlocks {
		f(0, n)
		return
	}
	var second sync.WaitGroup
	second.Go(func() { f(n/2, n) })
	f(0, n/2)
	second.Wait()
}
