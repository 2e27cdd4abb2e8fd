package main

import (
	"runtime"
	"sync/atomic"

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
