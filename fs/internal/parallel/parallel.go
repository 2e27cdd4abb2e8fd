// Package parallel spreads work on many small things over several goroutines.
package parallel

import (
	"fmt"
	"runtime/debug"
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
	waits := make([]func(), 0, ways-1)
	for i := 1; i < ways; i++ {
		waits = append(waits, Go(func() { f(i*n/ways, (i+1)*n/ways) }))
	}
	defer func() {
		for _, wait := range waits {
			defer wait() // all of them, whatever one panics with
		}
	}()
	f(0, n/ways)
}

// Go calls f in a goroutine of its own. wait, which must be called once, returns when f
// has; a panic of f comes out of it.
func Go(f func()) (wait func()) {
	done := make(chan any, 1)
	go func() {
		defer func() {
			v := recover()
			if v != nil {
				v = fmt.Sprintf("%v\n%s", v, debug.Stack())
			}
			done <- v
		}()
		f()
	}()
	return func() {
		if v := <-done; v != nil {
			panic(v)
		}
	}
}
