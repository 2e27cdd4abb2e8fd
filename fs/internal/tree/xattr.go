package tree

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
)

const (
	userSpace  = "user."
	sealedAttr = "user.mc1."
)

// withAttrs calls f with a descriptor of n and whether n's attributes are sealed
// (X1). No key is needed. Only files and directories have attributes.
func (t *Tree) withAttrs(n *inode.Inode, f func(fd int, sealed bool) error) error {
	switch n.Type {
	case unix.S_IFDIR:
		d, err := t.dir(n)
		if err != nil {
			return err
		}
		defer d.Release()
		return f(d.Fd(), true)
	case unix.S_IFREG:
	default:
		return unix.EPERM
	}
	sealed, _ := t.Table.Sealed(n)
	open, err := n.WithFile(func(file *backing.File, _ inode.Content) error { return f(file.Fd(), sealed) })
	if open {
		return err
	}
	return t.at(n, func(d *backing.Dir, a inode.Alias) error {
		file, err := d.Open(a.Stored.Name, unix.O_RDONLY|unix.O_NOATIME)
		if err != nil {
			return err
		}
		defer file.Close()
		return f(file.Fd(), sealed)
	})
}

// attrName returns the lower name of attribute name. Other name spaces than user.*
// are refused: what is not enforced must not be stored.
func (t *Tree) attrName(name string, sealed bool) (string, error) {
	short, ok := strings.CutPrefix(name, userSpace)
	if !ok {
		return "", unix.EOPNOTSUPP
	}
	if !sealed {
		return name, nil
	}
	return sealedAttr + t.Codec.SealXAttr(short), nil
}

// GetXAttr returns extended attribute name of n; unix.ENODATA if it has none.
func (t *Tree) GetXAttr(n *inode.Inode, name string) ([]byte, error) {
	if !strings.HasPrefix(name, userSpace) {
		return nil, unix.ENODATA
	}
	var value []byte
	err := t.withAttrs(n, func(fd int, sealed bool) error {
		low, err := t.attrName(name, sealed)
		if err != nil {
			return err
		}
		if value, err = backing.GetXAttr(fd, low); err != nil || !sealed {
			return err
		}
		value, err = t.XAttrs.Open(strings.TrimPrefix(name, userSpace), value)
		return err
	})
	return value, t.Alert(n, err)
}

// SetXAttr sets extended attribute name of n, with the flags of setxattr(2).
func (t *Tree) SetXAttr(n *inode.Inode, name string, value []byte, flags int) error {
	return t.withAttrs(n, func(fd int, sealed bool) error {
		low, err := t.attrName(name, sealed)
		if err != nil {
			return err
		}
		if sealed {
			value = t.XAttrs.Seal(strings.TrimPrefix(name, userSpace), value)
		}
		return backing.SetXAttr(fd, low, value, flags)
	})
}

// RemoveXAttr removes extended attribute name of n.
func (t *Tree) RemoveXAttr(n *inode.Inode, name string) error {
	return t.withAttrs(n, func(fd int, sealed bool) error {
		low, err := t.attrName(name, sealed)
		if err != nil {
			return err
		}
		return backing.RemoveXAttr(fd, low)
	})
}

// ListXAttr returns the names of the extended attributes of n, each ended by a zero
// byte: none for what is neither a file nor a directory.
func (t *Tree) ListXAttr(n *inode.Inode) ([]byte, error) {
	var out bytes.Buffer
	if n.Type != unix.S_IFREG && n.Type != unix.S_IFDIR {
		return nil, nil
	}
	err := t.withAttrs(n, func(fd int, sealed bool) error {
		list, err := backing.ListXAttr(fd)
		if err != nil {
			return err
		}
		for _, low := range splitAttrs(list) {
			if name, ok := t.viewAttr(low, sealed); ok {
				out.WriteString(name)
				out.WriteByte(0)
			}
		}
		return nil
	})
	return out.Bytes(), err
}

func (t *Tree) viewAttr(low string, sealed bool) (string, bool) {
	if !sealed {
		return low, strings.HasPrefix(low, userSpace)
	}
	hidden, ok := strings.CutPrefix(low, sealedAttr)
	if !ok {
		return "", false
	}
	name, err := t.Codec.OpenXAttr(hidden)
	return userSpace + name, err == nil
}

func splitAttrs(list []byte) []string {
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == 0 })
}

// copyXAttr copies one attribute of a stored file to its converted one.
func (t *Tree) copyXAttr(from, to int, low string, sealed, seal bool) error {
	name, ok := t.viewAttr(low, sealed)
	if !ok {
		return nil // not one of the view
	}
	value, err := backing.GetXAttr(from, low)
	if err != nil {
		return err
	}
	short := strings.TrimPrefix(name, userSpace)
	if sealed {
		if value, err = t.XAttrs.Open(short, value); err != nil {
			return err
		}
	}
	if seal {
		value = t.XAttrs.Seal(short, value)
	}
	low, err = t.attrName(name, seal)
	if err != nil {
		return err
	}
	return backing.SetXAttr(to, low, value, 0)
}
