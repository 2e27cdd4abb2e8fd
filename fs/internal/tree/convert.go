package tree

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// ErrBusy says that an entry could not be converted because somebody has it open
// or changed it meanwhile; another try may succeed.
var ErrBusy = errors.New("entry is in use")

// Goal is what a conversion makes of entries.
type Goal uint8

const (
	// Encrypt seals content under the key that new content of the same file would
	// get, and names under the site's key.
	Encrypt Goal = iota
	// Decrypt makes plain entries.
	Decrypt
	// HandOver is Encrypt for nothing but content under keys of a former owner.
	HandOver
)

// Name is one name of a file: an entry of a directory of the view.
type Name struct {
	Dir  *inode.Inode
	Name string
}

// goalName returns the stored name that entry name gets by goal g.
func (t *Tree) goalName(p *inode.Inode, name string, typ uint32, g Goal) (names.Stored, bool) {
	root := p == t.Table.Root
	if g == Decrypt {
		return names.Stored{Name: name}, t.Codec.CanBePlain(name, root)
	}
	return t.Codec.Create(name, typ == unix.S_IFREG, root), true
}

// Convert converts one entry, which all has to list every name of if it is a file
// with several links. With others, a plain file may have further links in trees of other
// users, as mail servers leave them that keep one copy of a message to several people:
// these stay what they are. The view shows the same before and after: size, times of file
// and directory, mode, owner, links, inode number. A crash at any point leaves at
// least one valid copy, and the view shows one. It returns the bytes that were
// written; errors are ErrBusy, secret.ErrLocked and those of the store.
func (t *Tree) Convert(all []Name, g Goal, others bool) (int64, error) {
	c := conversion{t: t, goal: g}
	defer c.close()
	for _, n := range all {
		if err := c.add(n); err != nil {
			return 0, err
		}
	}
	first := &c.places[0]
	if !hasContent(&first.st) {
		return 0, c.commit("")
	}
	if first.st.Nlink != uint32(len(all)) && !c.parts(others) {
		return 0, fmt.Errorf("%w: it has %d links, of which %d are known", ErrBusy, first.st.Nlink, len(all))
	}
	if first.n = t.Table.Known(first.dir, &first.st, first.s); first.n != nil && first.n.Handles() > 0 {
		return 0, ErrBusy
	}
	if !c.renames((*inode.Listers).Turn) {
		return 0, ErrBusy // before anything is copied in vain
	}
	temp, done := t.temporary()
	defer done()
	size, err := c.copy(temp)
	if err != nil && changed(first.d, first.s, &first.st) {
		err = ErrBusy // what looked damaged was being written
	}
	if err == nil {
		err = c.commit(temp)
	}
	if err != nil {
		_ = quietly(first, func() error { return first.d.Unlink(temp) })
		return 0, err
	}
	c.tell()
	return size, nil
}

// temporary returns the name of a new temporary file, which nobody takes for one that
// a crash has left until done is called.
func (t *Tree) temporary() (name string, done func()) {
	name = names.Temporary()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.temps[name] = struct{}{}
	return name, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.temps, name)
	}
}

// quietly changes the stored directory of p, as f does, in a way that the view does
// not show: its modification time stays.
func quietly(p *place, f func() error) error {
	p.dir.NS.Lock()
	defer p.dir.NS.Unlock()
	return quietlyLocked(p, f)
}

func quietlyLocked(p *place, f func() error) error {
	p.dir.Converted.Store(true)
	before, err := p.d.StatSelf()
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	times := timesOf(&before)
	times[0].Nsec = unix.UTIME_OMIT
	return p.d.Utimes(".", times)
}

// parts reports whether the names of c have to be parted from the others of their
// file, which are not this user's: it is under a key of a former owner, whose the other
// names still are, or it is a plain one.
func (c *conversion) parts(others bool) bool {
	p := &c.places[0]
	if !p.s.Kind.Sealed() {
		c.parted = others
		return others
	}
	id, err := c.t.keyID(p.dir, p.d, p.s, &p.st)
	c.parted = err == nil && c.t.keysFor(p.dir, p.name).foreign(id)
	return c.parted
}

// conversion is one call of Convert.
type conversion struct {
	t      *Tree
	goal   Goal
	parted bool // the other links of the file stay what they are: see parts
	places []place
	to     []names.Stored
}

func (c *conversion) close() {
	for i := range c.places {
		c.places[i].d.Release()
	}
}

// add finds one name of the entry.
func (c *conversion) add(n Name) error {
	d, err := c.t.dirFor(n.Dir, n.Name)
	if err != nil {
		return err
	}
	c.places = append(c.places, place{dir: n.Dir, d: d, name: n.Name})
	q := &c.places[len(c.places)-1]
	if err := c.t.findSettled(q); err != nil {
		return err
	}
	to, ok := c.t.goalName(n.Dir, n.Name, q.st.Type(), c.goal)
	if !ok {
		return fmt.Errorf("%w: its name cannot be plain", unix.EINVAL)
	}
	if q.s.Kind.Broken() {
		return errBroken
	}
	if c.goal == Encrypt && c.t.refuses(n.Dir, q.s, q.st.Type()) {
		return errPlain
	}
	c.to = append(c.to, to)
	return nil
}

// copy makes the converted file under the temporary name, durable.
func (c *conversion) copy(temp string) (int64, error) {
	p := &c.places[0]
	if p.st.Type() == unix.S_IFLNK {
		return 0, c.copyLink(temp)
	}
	low, err := p.d.Open(p.s.Name, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return 0, err
	}
	defer low.Close()
	from, err := c.t.reader(low, p)
	if err != nil {
		return 0, err
	}
	var f *backing.File
	err = quietly(p, func() (err error) {
		f, err = p.d.Create(temp, 0o600, backing.Owner{})
		return err
	})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	to, err := contentIn(f, 0, c.to[0], c.t.keysFor(p.dir, p.name))
	if err != nil {
		return 0, err
	}
	size, err := from.Length()
	if err != nil {
		return 0, err
	}
	copied, err := io.Copy(io.NewOffsetWriter(to, 0), io.NewSectionReader(readerAt{from}, 0, size))
	if err == nil && copied != size {
		err = ErrBusy // it was cut meanwhile
	}
	if err != nil {
		return 0, err
	}
	if err := c.t.copyAttrs(low, f, p, c.to[0]); err != nil {
		return 0, err
	}
	return size, to.Sync(false)
}

// readerAt gives a Content the end of file that io.ReaderAt wants.
type readerAt struct{ c inode.Content }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.c.ReadAt(p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// reader opens the content of the entry p for a conversion.
func (t *Tree) reader(low *backing.File, p *place) (inode.Content, error) {
	return contentIn(low, p.st.Size, p.s, t.keysFor(p.dir, p.name))
}

func (c *conversion) copyLink(temp string) error {
	p := &c.places[0]
	target, err := c.t.target(p.d, p.s)
	if err != nil {
		return err
	}
	if len(target) > names.MaxTarget && c.goal == Encrypt {
		return unix.ENAMETOOLONG
	}
	return quietly(p, func() error {
		if err := p.d.Symlink(temp, c.t.Codec.Target(c.to[0], target), backing.Owner{UID: p.st.UID, GID: p.st.GID}); err != nil {
			return err
		}
		return p.d.Utimes(temp, timesOf(&p.st))
	})
}

func timesOf(st *backing.Stat) backing.Times {
	return backing.Times{
		{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)},
		{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
	}
}

// copyAttrs gives the new file f the owner, mode, extended attributes and times of
// the old one.
func (t *Tree) copyAttrs(low, f *backing.File, p *place, to names.Stored) error {
	list, err := backing.ListXAttr(low.Fd())
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	for _, attr := range splitAttrs(list) {
		if err := t.copyXAttr(low.Fd(), f.Fd(), attr, p.s.Kind.Sealed(), to.Kind.Sealed()); err != nil {
			return err
		}
	}
	if err := f.Chown(backing.Owner{UID: p.st.UID, GID: p.st.GID}); err != nil {
		return err
	}
	if err := f.Chmod(p.st.Mode); err != nil {
		return err
	}
	return f.Utimes(timesOf(&p.st))
}
