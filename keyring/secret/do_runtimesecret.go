//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Do runs f and erases the registers and the stack that it used before it returns, and the heap that f allocated as
// soon as the collector finds it unreachable. Results that must live on belong into memory allocated by the caller.
func Do(f func()) { secret.Do(f) }

// Erasing tells whether Do erases what f leaves behind.
const Erasing = true
