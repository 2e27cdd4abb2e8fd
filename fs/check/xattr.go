package check

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
)

// xattrPrefix begins the stored name of an attribute of an encrypted entry (X1).
const xattrPrefix = "user.mc1."

// xattrsOf opens all extended attributes of an encrypted entry and returns what is wrong, each finding begun as f.
func (r *run) xattrsOf(fd int, f Finding) []Finding {
	list, err := backing.ListXAttr(fd)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	var bad []Finding
	add := func(k Kind, detail string) {
		f.Kind, f.Detail = k, detail
		bad = append(bad, f)
	}
	if err != nil {
		add(Unreadable, err.Error())
	}
	for stored := range strings.SplitSeq(string(list), "\x00") {
		sealed, ours := strings.CutPrefix(stored, xattrPrefix)
		if !ours {
			continue
		}
		name, err := r.codec.OpenXAttr(sealed)
		if err != nil {
			add(XAttrDamaged, "the name of extended attribute "+stored+" does not open")
			continue
		}
		value, err := backing.GetXAttr(fd, stored)
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			add(Unreadable, err.Error())
			continue
		}
		if _, err := r.xattrs.Open(name, value); err != nil {
			add(XAttrDamaged, "the value of extended attribute "+stored+" does not open")
		}
	}
	return bad
}
