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

// ahead is what a listing knows of a batch of entries before they are asked for.
type ahead struct {
	batch uint64
	views []view
}

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
	batch, at, number := l.list.Queue()
	if l.ahead.batch != number {
		l.open(batch)
		l.ahead.batch = number
	}
	return &l.ahead.views[at]
}

// open opens the names of a batch.
func (l *Listing) open(batch []backing.Entry) {
	if cap(l.ahead.views) < len(batch) {
		l.ahead.views = make([]view, len(batch))
	}
	views := l.ahead.views[:len(batch)]
	root := l.dir == l.t.Table.Root
	parallel.Ranges(len(batch), leastNames, nameWays, func(from, to int) {
		for i := from; i < to; i++ {
			views[i] = view{}
			views[i].name, views[i].stored = l.t.Codec.Decode(batch[i].Name, root)
		}
	})
	l.ahead.views = views
}

// replyEntry is the room in bytes that the kernel's struct fuse_direntplus takes
// beside the name.
const replyEntry = 152

// Look prepares for Node: it looks at the files of the next entries, as many as a
// reply of room bytes can hold. Until Done, which must follow, no entry of the directory
// comes, goes, or changes its name.
func (l *Listing) Look(room int) error {
	l.dir.NS.RLock()
	if _, ok, err := l.list.Peek(); err != nil || !ok {
		return err
	}
	l.view() // opens the names of the batch
	batch, at, _ := l.list.Queue()
	var todo []*view
	for i := at; i < len(batch) && room > 0; i++ {
		v := &l.ahead.views[i]
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
	for i := range l.ahead.views {
		l.ahead.views[i].looked = false
	}
}
