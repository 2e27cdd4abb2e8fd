package writers

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// deliver delivers, and of every fourth message removes an earlier one: "begin NAME", "there NAME", "going NAME", "gone NAME".
func (w *writer) deliver() func(int) error {
	return func(i int) error {
		name := fmt.Sprintf("%s-%d", w.id, i)
		tmp, final := w.place+"/tmp/"+name, w.place+"/new/"+name
		if err := errors.Join(w.note("begin %s", name), put(tmp, mail(name))); err != nil {
			return err
		}
		if err := os.Rename(tmp, final); err != nil {
			return err
		}
		if err := w.done(syncDir(w.place+"/new"), "there %s", name); err != nil || i%4 != 3 {
			return err
		}
		old := fmt.Sprintf("%s-%d", w.id, i-3)
		return w.remove(w.place+"/new", old, os.Remove)
	}
}

// append appends records with fdatasync: "done I".
func (w *writer) append() func(int) error {
	var f *os.File
	return func(i int) (err error) {
		if f == nil {
			if f, err = os.OpenFile(w.place, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
				return err
			}
		}
		if _, err := f.Write(logRecord(i)); err != nil {
			return err
		}
		if i == 0 { // the first one needs its name to be durable too
			err = f.Sync()
		} else {
			err = unix.Fdatasync(int(f.Fd()))
		}
		return w.done(err, "done %d", i)
	}
}

// inPlace overwrites records in place with fdatasync; slot S of generation G is filled with byte G: "made", "begin S G",
// "done S G".
func (w *writer) inPlace() func(int) error {
	var f *os.File
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 4))
	generation := [slots]int{}
	return func(i int) (err error) {
		if i == 0 {
			if f, err = os.OpenFile(w.place, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
				return err
			}
			_, err := f.Write(make([]byte, slots*slotSize))
			return w.done(errors.Join(err, f.Sync()), "made")
		}
		s := r.IntN(slots)
		generation[s] = generation[s]%250 + 1
		if err := w.note("begin %d %d", s, generation[s]); err != nil {
			return err
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(generation[s])}, slotSize), int64(s*slotSize)); err != nil {
			return err
		}
		return w.done(unix.Fdatasync(int(f.Fd())), "done %d %d", s, generation[s])
	}
}

// rename delivers one message and renames it again and again, as flag changes do: "begin I", "done I". The message is whole
// and durable before it has its name: a file that is not, after the power went, would look damaged.
func (w *writer) rename() func(int) error {
	return func(i int) error {
		if err := w.note("begin %d", i); err != nil {
			return err
		}
		cur := w.place + "/cur"
		from := cur + "/" + flagged(w.id, i-1)
		if i == 0 {
			from = w.place + "/tmp/" + w.id
			if err := put(from, mail(w.id)); err != nil {
				return err
			}
		}
		if err := os.Rename(from, cur+"/"+flagged(w.id, i)); err != nil {
			return err
		}
		return w.done(syncDir(cur), "done %d", i)
	}
}

// replace writes new versions of a file beside it and renames them over it, as index and subscription files are:
// "begin I", "done I".
func (w *writer) replace() func(int) error {
	return func(i int) error {
		if err := w.note("begin %d", i); err != nil {
			return err
		}
		name := fmt.Sprintf("%s-%d", w.id, i)
		path := w.place + "/" + w.id
		if err := put(path+".lock", mail(name)); err != nil {
			return err
		}
		if err := os.Rename(path+".lock", path); err != nil {
			return err
		}
		return w.done(syncDir(w.place), "done %d", i)
	}
}

// link gives messages a second name and takes the first one away, as copies within a mailbox and moves are: "made NAME",
// "linked NAME", "going NAME", "gone NAME"; the second name is NAME,copy, and of every third one a long one.
func (w *writer) link() func(int) error {
	return func(i int) error {
		name := fmt.Sprintf("%s-%d", w.id, i)
		first := w.place + "/tmp/" + name
		if err := w.done(errors.Join(put(first, mail(name)), syncDir(w.place+"/tmp")), "made %s", name); err != nil {
			return err
		}
		if err := os.Link(first, w.place+"/cur/"+copyOf(name)); err != nil {
			return err
		}
		if err := w.done(syncDir(w.place+"/cur"), "linked %s", name); err != nil || i%2 == 0 {
			return err
		}
		return w.remove(w.place+"/tmp", name, os.Remove)
	}
}

func copyOf(name string) string {
	if name[len(name)-1]%3 == 0 {
		return fmt.Sprintf("%s,copy%0200d", name, 0)
	}
	return name + ",copy"
}

// folder makes folders with a message in each, and of every fifth one removes an earlier one: "there NAME", "going NAME",
// "gone NAME".
func (w *writer) folder() func(int) error {
	return func(i int) error {
		name := fmt.Sprintf(".%s-%d", w.id, i)
		dir := w.place + "/" + name
		for _, d := range []string{"", "/cur", "/new", "/tmp"} {
			if err := os.Mkdir(dir+d, 0o700); err != nil {
				return err
			}
		}
		err := errors.Join(put(dir+"/cur/"+name, mail(name)), syncDir(dir+"/cur"), syncDir(dir), syncDir(w.place))
		if err := w.done(err, "there %s", name); err != nil || i%5 != 4 {
			return err
		}
		old := fmt.Sprintf(".%s-%d", w.id, i-4)
		return w.remove(w.place, old, os.RemoveAll)
	}
}

// remove removes an entry of a directory: "going NAME", "gone NAME".
func (w *writer) remove(dir, name string, rm func(string) error) error {
	if err := errors.Join(w.note("going %s", name), rm(dir+"/"+name)); err != nil {
		return err
	}
	return w.done(syncDir(dir), "gone %s", name)
}
