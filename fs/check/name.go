package check

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// name judges the stored name s, as Decode told it, and returns the name under which the view shows the entry. A long
// name that cannot be told makes s damaged.
func (r *run) name(p place, name string, s names.Stored) (string, names.Stored) {
	switch {
	case s.Long:
		return r.long(p, s)
	case s.Kind == names.Damaged:
		r.nameFinding(p, name, s, NameDamaged, "the name does not open under the site secret")
	case s.Kind == names.Unsupported:
		r.nameFinding(p, name, s, NameUnsupported, "the name is of a format version that this program does not know")
	default:
		r.shadow(p, name, s)
	}
	return name, s
}

func (r *run) nameFinding(p place, name string, s names.Stored, k Kind, detail string) {
	if !r.wanted(p) {
		return
	}
	f := p.finding(name, s.Name)
	f.Kind, f.Detail = k, detail
	r.found(f)
}

// long reads the side entry of a long name (N4).
func (r *run) long(p place, s names.Stored) (string, names.Stored) {
	content, err := p.dir.ReadSmall(s.Side(), names.MaxSide)
	if err == nil {
		var name string
		if name, err = r.codec.OpenSide(s, content); err == nil {
			return name, s
		}
	}
	s.Kind = names.Damaged
	if _, statErr := p.dir.Stat(s.Name); statErr != nil {
		return s.Name, s // it went meanwhile, and its side entry after it (N5)
	}
	if errors.Is(err, unix.ENOENT) {
		r.nameFinding(p, s.Name, s, SideMissing, "the entry that holds its long name is missing")
	} else {
		r.nameFinding(p, s.Name, s, SideWrong, "the entry that holds its long name is not the right one: "+err.Error())
	}
	return s.Name, s
}

// hidden judges an entry that the view does not show: a side entry (N5), a temporary file (N12), or the key records.
func (r *run) hidden(p place, stored string) {
	if !r.wanted(p) || p.root && stored == names.KeyDir {
		return
	}
	f := p.finding(stored, stored)
	f.View = ""
	if names.IsTemporary(stored) {
		f.Kind, f.Detail = Leftover, "a file that is being converted, or whose conversion was broken off; the original is there"
		r.found(f)
		return
	}
	entry, _ := names.Sided(stored)
	if _, err := p.dir.Stat(entry); errors.Is(err, unix.ENOENT) {
		f.Kind, f.Detail = SideOrphan, "the name of an entry that is not there; it may be removed"
		r.found(f)
	}
}

// shadow reports a plain or plain-named entry that another entry hides (N8). A conversion has both for a moment.
func (r *run) shadow(p place, name string, s names.Stored) {
	if !r.wanted(p) {
		return
	}
	var first names.Stored
	for try := 0; ; try++ {
		var ok bool
		if first, ok = r.candidate(p, name); !ok || first.Name == s.Name {
			return
		}
		if _, err := p.dir.Stat(s.Name); err != nil {
			return
		}
		if try == again || !r.young(p, first) {
			break
		}
		if !r.pause() {
			return
		}
	}
	f := p.finding(name, s.Name)
	f.Kind, f.Detail = Shadowed, "hidden by "+first.Name+", which has the same name in the view"
	r.found(f)
}

// conversionTime is longer than a conversion has an entry under both its names.
const conversionTime = time.Minute

// young reports whether a conversion may just have made the entry s.
func (r *run) young(p place, s names.Stored) bool {
	st, err := p.dir.Stat(s.Name)
	return err != nil || time.Since(time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))) < conversionTime
}

// candidate finds the stored entry that counts for a view name (N8, N9).
func (r *run) candidate(p place, name string) (names.Stored, bool) {
	return r.first(name, p.root, func(s names.Stored) bool { return r.counts(p, s) })
}

// first returns the first stored entry that counts.
func (r *run) first(name string, root bool, counts func(names.Stored) bool) (found names.Stored, ok bool) {
	var all []names.Stored
	r.codec.Candidates(name, root, func(s names.Stored) bool {
		all = append(all, s)
		ok = counts(s)
		return ok
	})
	if ok {
		return all[len(all)-1], true
	}
	// A conversion may have renamed the entry after the first name was tried and before the one it had was.
	return all[0], counts(all[0])
}

// counts says whether s, as Candidates gives it, is there and stands for the name that is looked for.
func (r *run) counts(p place, s names.Stored) bool {
	if _, err := p.dir.Stat(s.Name); err != nil {
		return false
	}
	if s.Kind.Broken() && s.Long {
		_, side := r.sideName(p.dir, names.Stored{Name: s.Name, Kind: names.Encrypted, Long: true})
		return side.Kind.Broken() // or it has a view name, which is not this one
	}
	return true
}

// sideName reads the side entry of a long name; without a right one s becomes damaged.
func (r *run) sideName(d *backing.Dir, s names.Stored) (string, names.Stored) {
	content, err := d.ReadSmall(s.Side(), names.MaxSide)
	if err == nil {
		var name string
		if name, err = r.codec.OpenSide(s, content); err == nil {
			return name, s
		}
	}
	s.Kind = names.Damaged
	return s.Name, s
}

// link checks the target of a symbolic link (N10). One that is not encrypted may be of anybody's making.
func (r *run) link(p place, name string, s names.Stored) {
	f := p.finding(name, s.Name)
	if s.Kind != names.Encrypted {
		if r.o.RefusePlain && !r.o.PlainNames && p.user() != "" && (s.Kind == names.Plain || s.Kind == names.PlainNamed) {
			f.Kind, f.Detail = PlainRefused, "a symbolic link that is not encrypted where plain = \"refuse\""
			r.found(f)
		}
		return
	}
	target, err := p.dir.Readlink(s.Name)
	if errors.Is(err, unix.EINVAL) {
		return // replaced by something else meanwhile
	}
	if err != nil {
		r.unreadable(f, err)
		return
	}
	if _, err := r.codec.OpenTarget(s, target); err != nil {
		f.Kind, f.Detail = LinkDamaged, "the target of the symbolic link does not open under the site secret"
		r.found(f)
	}
}
