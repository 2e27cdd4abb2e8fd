package fault

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is what the view shows of one file or directory, but for times and numbers.
type entry struct {
	mode, uid, gid, nlink uint32
	target, attrs         string
	content               []byte
}

type snapshot map[string]entry

// look takes a snapshot of everything below dir.
func look(dir string) (snapshot, error) {
	s := snapshot{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		s[rel], err = lookAt(path)
		return err
	})
	return s, err
}

func lookAt(path string) (e entry, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return e, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	e = entry{mode: st.Mode, uid: st.Uid, gid: st.Gid, nlink: uint32(st.Nlink)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		e.target, err = os.Readlink(path)
	case unix.S_IFREG:
		e.content, err = os.ReadFile(path)
		if err == nil && int64(len(e.content)) != st.Size {
			err = fmt.Errorf("%s has %d bytes, and says %d", path, len(e.content), st.Size)
		}
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		e.attrs = attrs(path)
	}
	return e, err
}

// attrs are the extended attributes of an entry, in one line.
func attrs(path string) string {
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return err.Error()
	}
	var all []string
	value := make([]byte, 4096)
	for _, name := range strings.Split(string(names[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		if n, err := unix.Lgetxattr(path, name, value); err != nil {
			all = append(all, name+": "+err.Error())
		} else {
			all = append(all, name+"="+string(value[:n]))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (e entry) same(o entry) bool {
	c, d := e.content, o.content
	e.content, o.content = nil, nil
	return fmt.Sprint(e) == fmt.Sprint(o) && bytes.Equal(c, d)
}

// between reports whether every byte of e, and its size, is that of a or of b, and all else that of a.
func (e entry) between(a, b entry) bool {
	lo, hi := min(len(a.content), len(b.content)), max(len(a.content), len(b.content))
	if len(e.content) < lo || len(e.content) > hi {
		return false
	}
	for i, c := range e.content {
		if !(i < len(a.content) && a.content[i] == c) && !(i < len(b.content) && b.content[i] == c) {
			return false
		}
	}
	e.content = a.content
	return e.same(a)
}

// difference says what is in s that is not in want and the other way round; "" if nothing.
func (s snapshot) difference(want snapshot) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if w, ok := want[name]; !ok {
			all = append(all, fmt.Sprintf("%s was not expected: %s", name, s[name]))
		} else if !s[name].same(w) {
			all = append(all, fmt.Sprintf("%s is %s, want %s", name, s[name], w))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := s[name]; !ok {
			all = append(all, name+" is missing")
		}
	}
	return strings.Join(all, "; ")
}

func (e entry) String() string {
	text := fmt.Sprintf("mode %o of %d:%d with %d links, %d bytes", e.mode, e.uid, e.gid, e.nlink, len(e.content))
	if e.target != "" {
		text += " to " + e.target
	}
	if e.attrs != "" {
		text += " [" + e.attrs + "]"
	}
	return text
}
