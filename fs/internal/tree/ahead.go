package tree

import (
	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/parallel"
)

// A listing opens the names of a batch of entries at once, and looks at the files of
// one reply at once: on a cold disk most of the time is waiting, else it is
// cryptography. Both are worth a goroutine from this many entries on.
const (
	leastNames, nameWays = 64, 4
	leastStats, statWays = 16, 8
)

// view is one stored entry: how its name opens, and what is known of its file.
type view struct {
	name   string
	stored names.Stored
	st     backing.Stat
	looked bool  // st and err are valid
	err    error // of the look
}

// view returns what is known of the entry that the stored listing stands at.
func (l *Listing) view() *view {
	_, at, of := l.list.Batch()
	return &l.views[of][at]
}

// open opens the names of a batch, perhaps while another one is listed.
func (l *Listing) open(batch []backing.Entry, of int) {
	if cap(l.views[of]) < len(batch) {
		l.views[of] = make([]view, len(batch))
	}
	views := l.views[of][:len(batch)]
	root := l.dir == l.t.Table.Root
	parallel.Ranges(len(batch), leastNames, nameWays, func(from, to int) {
		for i := from; i < to; i++ {
			views[i] = view{}
			views[i].name, views[i].stored = l.t.Codec.Decode(batch[i].Name, root)
		}
	})
	l.views[of] = views
}

// replyEntry is the room in bytes that the kernel's struct fuse_direntplus takes
// beside the name.
const replyEntry = 152

// Look prepares for Node: it looks at the files of the next entries, as many as a
// reply of room bytes can hold; 0 if Node is not called. Until Done, which must follow, no
// entry of the directory comes, goes, or changes its name.
func (l *Listing) Look(room int) error {
	l.dir.NS.RLock()
	if _, ok, err := l.list.Peek(); err != nil || !ok {
		return err
	}
	batch, at, of := l.list.Batch()
	var todo []*view
	for i := at; i < len(batch) && room > 0; i++ {
		v := &l.views[of][i]
		if v.name == "." || v.name == ".." {
			continue
		}
		room -= replyEntry + len(v.name)
		key := backing.Key{Dev: l.t.Table.Device(), Ino: batch[i].Ino}
		if v.stored.Kind != names.Hidden && !l.t.Table.KernelHolds(key, l.dir, v.stored) {
			todo = append(todo, v)
		}
	}
	d := l.list.Dir()
	parallel.Ranges(len(todo), leastStats, statWays, func(from, to int) {
		for _, v := range todo[from:to] {
			v.st, v.err = d.Stat(v.stored.Name)
			v.looked = true
		}
	})
	return nil
}

// Done ends what Look began, and forgets what it saw.
func (l *Listing) Done() {
	l.dir.NS.RUnlock()
	_, _, of := l.list.Batch()
	for i := range l.views[of] { // what was looked at in another batch is not listed again
		l.views[of][i].looked = false
	}
}
