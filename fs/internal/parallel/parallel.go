// Package parallel spreads work on many small things over several goroutines.
package parallel

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Ranges calls f for the numbers 0 to n-1 in up to ways ranges at once, each of at
// least least numbers; it returns when all calls have. Where that leaves one range,
// f runs in the caller's goroutine and nothing is allocated. A panic of f comes out of
// Ranges, whichever goroutine it happened in.
func Ranges(n, least, ways int, f func(from, to int)) {
	ways = min(ways, n/least)
	if ways < 2 {
		f(0, n)
		return
	}
	panics := make([]any, ways)
	var others sync.WaitGroup
	for i := 1; i < ways; i++ {
		others.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					panics[i] = fmt.Sprintf("%v\n%s", v, debug.Stack())
				}
			}()
			f(i*n/ways, (i+1)*n/ways)
		})
	}
	defer func() {
		others.Wait()
		for _, v := range panics {
			if v != nil {
				panic(v)
			}
		}
	}()
	f(0, n/ways)
}
