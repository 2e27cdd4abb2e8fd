package crash

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// account is a writer's list of what it has begun and what was acknowledged, one line each, on another filesystem.
type account struct{ f *os.File }

func openAccount(path string) (*account, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return &account{f}, err
}

func (a *account) note(format string, args ...any) error {
	_, err := fmt.Fprintf(a.f, format+"\n", args...)
	return err
}

// mail is the content that belongs to a name; nothing else may ever be found under it.
func mail(name string) []byte {
	seed := uint64(crc32.ChecksumIEEE([]byte(name)))
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, 50+r.IntN([]int{3000, 9000, 60000}[r.IntN(3)]))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// until runs a writer until the daemon is gone; an error that means something else goes to the test.
func until(step func(i int) error, c *harness.Child) error {
	for i := 0; ; i++ {
		err := step(i)
		for _, gone := range []error{unix.ENOTCONN, unix.ECONNABORTED, unix.EIO, unix.EINTR} {
			if errors.Is(err, gone) {
				return c.Say("ended")
			}
		}
		if err != nil {
			return err
		}
		if i == 0 {
			if err := c.Say("going"); err != nil {
				return err
			}
		}
	}
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// childDeliver BOX ACCOUNT ID delivers, and of every fourth message removes an earlier one; it notes "there NAME" and
// "gone NAME".
func childDeliver(c *harness.Child) error {
	box, id := c.Args[0], c.Args[2]
	a, err := openAccount(c.Args[1])
	if err != nil {
		return err
	}
	return until(func(i int) error {
		name := fmt.Sprintf("%s-%d", id, i)
		f, err := os.OpenFile(box+"/tmp/"+name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		content := mail(name)
		half := len(content) / 2
		_, err = f.Write(content[:half])
		if err == nil {
			_, err = f.Write(content[half:])
		}
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := errors.Join(os.Rename(box+"/tmp/"+name, box+"/new/"+name), syncDir(box+"/new")); err != nil {
			return err
		}
		if err := a.note("there %s", name); err != nil {
			return err
		}
		if i%4 != 3 {
			return nil
		}
		old := fmt.Sprintf("%s-%d", id, i-3)
		if err := a.note("going %s", old); err != nil {
			return err
		}
		if err := errors.Join(os.Remove(box+"/new/"+old), syncDir(box+"/new")); err != nil {
			return err
		}
		return a.note("gone %s", old)
	}, c)
}

// logRecord is the i-th record of an append-only log.
func logRecord(i int) []byte {
	return bytes.Repeat([]byte{byte(i), byte(i >> 8), 0xa5}, 30+i*37%200)
}

// childAppend PATH ACCOUNT appends records with fdatasync and notes "done I".
func childAppend(c *harness.Child) error {
	a, err := openAccount(c.Args[1])
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Args[0], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return until(func(i int) error {
		if _, err := f.Write(logRecord(i)); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		return a.note("done %d", i)
	}, c)
}

// slots and slotSize are the records of a file that is changed in place; some lie across the edge of two blocks.
const slots, slotSize = 64, 700

// childInPlace PATH ACCOUNT overwrites records in place with fdatasync: slot S of generation G is filled with byte G. It
// notes "begin S G" and "done S G".
func childInPlace(c *harness.Child) error {
	a, err := openAccount(c.Args[1])
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Args[0], os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 4))
	generation := [slots]int{}
	return until(func(i int) error {
		if i == 0 {
			if _, err := f.Write(make([]byte, slots*slotSize)); err != nil {
				return err
			}
			return errors.Join(f.Sync(), a.note("made 0 0"))
		}
		s := r.IntN(slots)
		generation[s] = generation[s]%250 + 1
		if err := a.note("begin %d %d", s, generation[s]); err != nil {
			return err
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(generation[s])}, slotSize), int64(s*slotSize)); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		return a.note("done %d %d", s, generation[s])
	}, c)
}

// childRename DIR ACCOUNT ID renames one message again and again, as flag changes do, and notes "done I".
func childRename(c *harness.Child) error {
	dir, id := c.Args[0], c.Args[2]
	a, err := openAccount(c.Args[1])
	if err != nil {
		return err
	}
	name := func(i int) string {
		if i%3 == 2 { // a long name now and then: it has a side entry
			return fmt.Sprintf("%s/%s,%0200d:%d", dir, id, 0, i)
		}
		return fmt.Sprintf("%s/%s:%d", dir, id, i)
	}
	return until(func(i int) error {
		if i == 0 {
			f, err := os.Create(name(0))
			if err != nil {
				return err
			}
			_, err = f.Write(mail(id))
			return errors.Join(err, f.Sync(), f.Close(), syncDir(dir), a.note("done 0"))
		}
		if err := os.Rename(name(i-1), name(i)); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
		return a.note("done %d", i)
	}, c)
}
