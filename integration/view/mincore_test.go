package view

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mincore is mincore(2), which golang.org/x/sys/unix does not wrap: vec tells for each page of m whether it is in memory.
func mincore(m, vec []byte) error {
	_, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&vec[0])))
	if e != 0 {
		return e
	}
	return nil
}
