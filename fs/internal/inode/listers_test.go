package inode

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestListers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Listers
		turn := func(want bool, limit time.Duration) {
			t.Helper()
			began := time.Now()
			if got := l.Turn(); got != want || time.Since(began) > limit {
				t.Errorf("turn %v after %v; want %v within %v", got, time.Since(began), want, limit)
			}
		}
		turn(true, 0)
		l.Begin()
		// One that does not end is waited for once.
		turn(false, turnWait)
		turn(false, 0)
		if !l.Listed() {
			t.Error("not listed")
		}
		l.End()
		turn(true, 0)
		// One that ends gives conversions their turn, and the next one waits for the end of that.
		l.Begin()
		time.AfterFunc(turnWait/2, l.End)
		turn(true, turnWait/2)
		began := time.Now()
		listed := make(chan time.Duration)
		go func() {
			l.Begin()
			listed <- time.Since(began)
		}()
		synctest.Wait()
		turn(true, 0)
		if l.Listed() {
			t.Error("a listing in the turn of conversions")
		}
		if waited := <-listed; waited != turnLength {
			t.Errorf("a listing waited for %v", waited)
		}
		time.AfterFunc(turnWait/2, l.End)
		turn(true, turnWait/2)
	})
}
