//go:build !goexperiment.runtimesecret

package secret

// Do runs f. Where the toolchain offers it (GOEXPERIMENT=runtimesecret) registers, stack and heap that f used are erased
// afterwards; in this build f is run directly, and its callers wipe what they can name.
func Do(f func()) { f() }

// Erasing tells whether Do erases what f leaves behind.
const Erasing = false
