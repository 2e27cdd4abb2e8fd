package main

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLater runs what is asked for many times at once only once, and again when it is asked for again.
func TestLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		ask := later(time.Second, func() { ran.Add(1) })
		for want := range int32(3) {
			for range 100 {
				ask()
			}
			if got := ran.Load(); got != want {
				t.Errorf("ran %d times before its time, want %d", got, want)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got := ran.Load(); got != want+1 {
				t.Errorf("ran %d times, want %d", got, want+1)
			}
		}
	})
}
