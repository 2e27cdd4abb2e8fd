package tree

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
)

// follow re-encrypts a file that got a name of another class: some programs write
// their indexes in the tmp of a folder, and must be able to read them while their
// user is locked. Whoever has it open has to close it first, so this is tried for a
// while, apart.
func (t *Tree) follow(src, dst *place) {
	from, to := t.Table.Route(src.dir).Class(src.name), t.Table.Route(dst.dir).Class(dst.name)
	if src.st.Type() != unix.S_IFREG || (from == route.Meta) == (to == route.Meta) {
		return
	}
	n := Name{dst.dir, dst.name}
	t.background.Go(func() {
		defer t.guard()
		for wait := followFirst; wait < followLast; wait *= 2 {
			select {
			case <-t.ended:
				return
			case <-time.After(wait):
			}
			need, _, err := t.Needs(n.Dir, n.Name, Encrypt)
			if err != nil || !need {
				return // the worker does what can be done later
			}
			if _, err = t.Convert([]Name{n}, Encrypt, false); !errors.Is(err, ErrBusy) {
				return
			}
		}
	})
}

// Close waits for work in the background, and closes every descriptor. No request may be under way or come any more.
// It may be called more than once.
func (t *Tree) Close() {
	t.ending.Do(func() { close(t.ended) })
	t.background.Wait()
	t.Table.Close()
}

// guard keeps a mistake in a goroutine of its own from ending the view.
func (t *Tree) guard() {
	if v := recover(); v != nil {
		t.Log.Error("work in the background failed by a mistake of mailcryptfs: please report it", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
}

// followFirst and followLast bound the pauses between tries of follow.
const (
	followFirst = 5 * time.Millisecond
	followLast  = 10 * time.Second
)
