package main

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// eraser returns what has the heap collected after keys were wiped, where that erases what ciphers and hashes left of
// them (secret.Do). Calls that come while one collects share the next collection.
func eraser() func() {
	if !secret.Erasing {
		return func() {}
	}
	var waiting atomic.Int32
	return func() {
		if waiting.Add(1) > 1 {
			return
		}
		for {
			seen := waiting.Load()
			runtime.GC()
			if waiting.CompareAndSwap(seen, 0) {
				return
			}
		}
	}
}

// eraseDelay is how long after an unlock the heap is collected. All unlocks of that time share one collection, so that a
// storm of logins costs one a second.
const eraseDelay = time.Second

// later returns what has f run once, that long after the first of the calls that came since it last began. It never waits.
func later(delay time.Duration, f func()) func() {
	var waiting atomic.Bool
	return func() {
		if waiting.CompareAndSwap(false, true) {
			time.AfterFunc(delay, func() {
				waiting.Store(false)
				f()
			})
		}
	}
}
