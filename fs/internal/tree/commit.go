package tree

import (
	"slices"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
)

// commit puts the temporary file (or, with an empty name, the entry itself) in the
// place of all names, if nobody has the file open and it is as it was when it was copied.
func (c *conversion) commit(temp string) error {
	if !c.renames((*inode.Listers).Turn) {
		return ErrBusy
	}
	unlock := c.lock()
	defer unlock()
	if !c.renames(func(l *inode.Listers) bool { return !l.Listed() }) {
		return ErrBusy
	}
	first := &c.places[0]
	// Closed before anything is compared: through what is open one changes a file without its name, which is locked.
	first.n = c.t.Table.Known(first.dir, &first.st, first.s)
	if temp != "" && first.n != nil && !first.n.Retire(c.t.Table.Cache) {
		return ErrBusy
	}
	for i := range c.places {
		if p := &c.places[i]; changed(p.d, p.s, &p.st) {
			return ErrBusy
		}
	}
	for i := range c.places {
		if err := c.replace(i, temp); err != nil {
			return err
		}
	}
	return nil
}

// renames reports whether may allows it for each directory in which a stored name changes.
func (c *conversion) renames(may func(*inode.Listers) bool) bool {
	for i := range c.places {
		if p := &c.places[i]; c.to[i].Name != p.s.Name && !may(&p.dir.Listers) {
			return false
		}
	}
	return true
}

// lock locks the namespaces of all directories involved, in order.
func (c *conversion) lock() (unlock func()) {
	dirs := make([]*inode.Inode, 0, len(c.places))
	for i := range c.places {
		dirs = append(dirs, c.places[i].dir)
	}
	slices.SortFunc(dirs, func(a, b *inode.Inode) int { return int(a.ID) - int(b.ID) })
	dirs = slices.Compact(dirs)
	for _, d := range dirs {
		d.NS.Lock()
	}
	return func() {
		for _, d := range slices.Backward(dirs) {
			d.NS.Unlock()
		}
	}
}

// replace gives name i the converted file. The directory's modification time stays:
// its content, as the view shows it, does.
func (c *conversion) replace(i int, temp string) error {
	p, s := &c.places[i], c.to[i]
	st, err := c.fresh(i, temp) // before, because nothing may fail between the step that counts and rebind
	if err != nil {
		return err
	}
	if s.Name != p.s.Name {
		p.dir.StaleList.Store(true)
	}
	done := false
	err = quietlyLocked(p, func() error {
		if err := c.t.prepare(p.dir, p.d, s, p.name); err != nil {
			return err
		}
		if err := c.put(i, temp); err != nil {
			return err
		}
		done = c.goal == Encrypt || temp == "" // what is encrypted counts from now on (N8)
		if temp != "" && s.Name != p.s.Name {
			if err := p.d.Unlink(p.s.Name); err != nil {
				return err
			}
		}
		done = true
		if p.s.Long && s.Name != p.s.Name { // after the entry that it names (N5)
			_ = p.d.Unlink(p.s.Side())
		}
		return nil
	})
	if done {
		c.rebind(p, s, st)
	}
	return err
}

// fresh is what the file will be that put gives name i.
func (c *conversion) fresh(i int, temp string) (backing.Stat, error) {
	switch {
	case temp == "":
		return c.places[i].d.Stat(c.places[i].s.Name)
	case i == 0:
		return c.places[0].d.Stat(temp)
	}
	return c.places[0].d.Stat(c.to[0].Name)
}

// rebind tells the table that p is stored as s now; st may be from before.
func (c *conversion) rebind(p *place, s names.Stored, st backing.Stat) {
	n := c.places[0].n
	if n == nil {
		return
	}
	if c.parted {
		c.t.Table.DropAlias(n, p.dir, p.name, false)
		return
	}
	if now, err := p.d.Stat(s.Name); err == nil {
		st = now
	}
	c.t.Table.Rebind(n, &st, inode.Alias{Parent: p.dir, Name: p.name, Stored: s})
}

// tell has the kernel look up names anew that are those of another file now, and ask
// again how many links the one before has. No lock may be held: a request that waits for
// it may hold the directory in the kernel.
func (c *conversion) tell() {
	if !c.parted || c.t.DropEntry == nil {
		return
	}
	if n := c.places[0].n; n != nil {
		c.t.DropPages([]uint64{n.ID})
	}
	for i := range c.places {
		c.t.DropEntry(c.places[i].dir.ID, c.places[i].name)
	}
}

// put is the step of replace that counts: the first name takes the temporary file,
// the others are linked to it.
func (c *conversion) put(i int, temp string) error {
	p, s := &c.places[i], c.to[i]
	switch {
	case temp == "":
		return p.d.Rename(p.s.Name, p.d, s.Name, 0)
	case i == 0:
		return p.d.Rename(temp, p.d, s.Name, 0)
	}
	own := names.Temporary()
	if err := c.places[0].d.Link(c.to[0].Name, p.d, own); err != nil {
		return err
	}
	err := p.d.Rename(own, p.d, s.Name, 0)
	if err != nil {
		_ = p.d.Unlink(own)
	}
	return err
}
