package backing

import "golang.org/x/sys/unix"

// GetXAttr returns the extended attribute name of an open file or directory.
func GetXAttr(fd int, name string) ([]byte, error) {
	return grow(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// ListXAttr returns the names of the extended attributes, each ended by a zero byte.
func ListXAttr(fd int) ([]byte, error) {
	return grow(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
}

// SetXAttr sets the extended attribute name with the flags of setxattr(2).
func SetXAttr(fd int, name string, value []byte, flags int) error {
	return again("fsetxattr", func() error { return unix.Fsetxattr(fd, name, value, flags) })
}

// RemoveXAttr removes the extended attribute name.
func RemoveXAttr(fd int, name string) error {
	return again("fremovexattr", func() error { return unix.Fremovexattr(fd, name) })
}

// maxXAttr is the kernel's limit of an attribute's value and of a list of names.
const maxXAttr = 64 << 10

func grow(call func([]byte) (int, error)) ([]byte, error) {
	for size := 512; ; size = maxXAttr {
		buf := make([]byte, size)
		var n int
		err := again("getxattr", func() (err error) {
			n, err = call(buf)
			return err
		})
		if err == nil {
			return buf[:n], nil
		}
		if size == maxXAttr {
			return nil, err
		}
	}
}
