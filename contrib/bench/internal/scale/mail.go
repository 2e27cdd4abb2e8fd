package scale

import (
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
)

// messageSize is the size in bytes of the messages of a large folder.
const messageSize = 1200

// messages fills one folder, lists it with cold caches, and lets go of it.
func (r *run) messages() error {
	home := r.home(0)
	for _, dir := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			return err
		}
	}
	there := 0
	for _, n := range r.Messages {
		took, err := each(n-there, func() error {
			for ; there < n; there++ {
				if err := deliver(home, there); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.note("delivery without fsync", "messages", "µs", n, took)
		if err := r.listing(filepath.Join(home, "new"), n); err != nil {
			return err
		}
	}
	return nil
}

func deliver(home string, i int) error {
	name := fmt.Sprintf("%010d.M%06dP1.mail.example.org", 1700000000+i, i%1000000)
	tmp := filepath.Join(home, "tmp", name)
	if err := os.WriteFile(tmp, make([]byte, messageSize), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(home, "new", name))
}

// listing lists a folder, looks at each of its files, and at what the daemon holds meanwhile and afterwards.
func (r *run) listing(dir string, n int) error {
	if err := r.cold(); err != nil {
		return err
	}
	took, err := each(n, func() error { return list(dir, n, false) })
	if err != nil {
		return err
	}
	r.note("cold listing, of an entry", "messages", "µs", n, took)
	if took, err = each(n, func() error { return list(dir, n, true) }); err != nil {
		return err
	}
	r.note("cold look at all files, of a file", "messages", "µs", n, took)
	if err := r.inodes("that the kernel has cached", n); err != nil {
		return err
	}
	if err := r.memory("messages", n); err != nil {
		return err
	}
	if err := r.cold(); err != nil {
		return err
	}
	return r.inodes("after the kernel has let them go", n)
}

func (r *run) inodes(when string, n int) error {
	inodes, err := r.site.Inodes()
	if err == nil {
		r.note("inodes "+when, "messages", "", n, float64(inodes))
	}
	return err
}

func list(dir string, want int, look bool) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	if len(entries) != want {
		return fmt.Errorf("%s: %d entries instead of %d", dir, len(entries), want)
	}
	for _, e := range entries {
		if !look {
			break
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() != messageSize {
			return fmt.Errorf("%s: %d bytes instead of %d", e.Name(), info.Size(), messageSize)
		}
	}
	return nil
}

// folders makes a tree of folders and walks it with cold caches.
func (r *run) folders() error {
	home := r.home(10)
	there := 0
	for _, n := range r.Folders {
		took, err := each(n-there, func() error {
			for ; there < n; there++ {
				for _, dir := range []string{"tmp", "new", "cur"} {
					if err := os.MkdirAll(filepath.Join(home, fmt.Sprintf(".list.%02d.folder %05d", there%100, there), dir), 0o700); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.note("making a folder", "folders", "µs", n, took)
		if err := r.cold(); err != nil {
			return err
		}
		took, err = each(n, func() error {
			return filepath.WalkDir(home, func(_ string, d iofs.DirEntry, err error) error {
				if err == nil {
					_, err = d.Info()
				}
				return err
			})
		})
		if err != nil {
			return err
		}
		r.note("cold walk, of a folder", "folders", "µs", n, took)
		if err := r.memory("folders", n); err != nil {
			return err
		}
	}
	return nil
}
