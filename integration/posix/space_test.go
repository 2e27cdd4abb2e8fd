package posix

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// onSmall runs a case on a small filesystem: directly, and in a view whose store lies on it.
func onSmall(t *testing.T, image harness.Image, prepare func(t *testing.T, fs string), run func(t *testing.T, dir string)) {
	t.Helper()
	t.Run("Plain", func(t *testing.T) {
		fs, _ := image.Mounted(t)
		prepare(t, fs)
		run(t, mkdir(t, fs, "d"))
	})
	t.Run("View", func(t *testing.T) {
		s := harness.Start(t, harness.Options{Store: image})
		s.Enroll(t, "alice")
		s.Unlock(t, "alice")
		prepare(t, s.StoreFS)
		s.Announce(`no space left|quota exceeded`)
		mkdir(t, s.View, "alice")
		t.Run("Meta", func(t *testing.T) { run(t, mkdir(t, s.View, "alice", "d")) })
		t.Run("Private", func(t *testing.T) { run(t, mkdir(t, mkdir(t, s.View, "alice", ".d"), "cur")) })
		s.Stop(t)
		s.Serve(t)
	})
}

// TestNoSpace: a full disk is ENOSPC to the caller, and takes nothing that was there before.
func TestNoSpace(t *testing.T) {
	onSmall(t, harness.Image{MiB: 24}, func(*testing.T, string) {}, func(t *testing.T, dir string) { full(t, dir, unix.ENOSPC) })
}

// TestQuota: the same for a quota. This uses btrfs's quota groups; they need nothing but the filesystem itself, while those
// of ext4 and XFS need a kernel with CONFIG_QFMT_V2 or CONFIG_XFS_QUOTA.
func TestQuota(t *testing.T) {
	limit := func(t *testing.T, fs string) {
		t.Helper()
		harness.Run(t, "btrfs", "quota", "enable", fs)
		harness.Run(t, "btrfs", "qgroup", "limit", "24M", fs)
	}
	onSmall(t, harness.Image{FS: "btrfs", MiB: 256}, limit, func(t *testing.T, dir string) { full(t, dir, unix.EDQUOT) })
}

// full writes until nothing more fits.
func full(t *testing.T, dir string, want unix.Errno) {
	kept := map[string][]byte{}
	check := func(when string) {
		t.Helper()
		for path, content := range kept {
			if got := read(t, path); !bytes.Equal(got, content) {
				t.Fatalf("%s: %s: %s", when, filepath.Base(path), difference(got, content))
			}
		}
	}
	log, record := open(t, dir+"/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND), noise(30, 1500)
	var logged []byte
	var err error
	for i := 0; err == nil; i++ {
		path := fmt.Sprintf("%s/%d", dir, i)
		content := noise(uint64(i), 100000)
		if err = store(path, content); err == nil {
			kept[path] = content
		}
		if err == nil {
			if err = appendSync(log, record); err == nil {
				logged = append(logged, record...)
			}
		}
		if i > 10000 {
			t.Fatal("the filesystem does not fill")
		}
	}
	if !errors.Is(err, want) {
		t.Errorf("writing until it is full: %v, want %v", err, want)
	}
	// Small appends fill what is left; one that fails leaves the log whole up to it, or with a part of it.
	for range 5000 {
		if err := appendSync(log, record); err != nil {
			if !errors.Is(err, want) {
				t.Errorf("append: %v, want %v", err, want)
			}
			break
		}
		logged = append(logged, record...)
	}
	if got := read(t, dir+"/log"); !bytes.HasPrefix(got, logged) || len(got) > len(logged)+len(record) {
		t.Errorf("the log: %s", difference(got, logged))
	}
	check("full")
	hugeTruncate(t, dir, want)
	check("after a huge truncate")
	if err := os.Mkdir(dir+"/sub", 0o755); err != nil && !errors.Is(err, want) {
		t.Errorf("mkdir: %v", err)
	}
	overwrite(t, dir+"/0", kept, want)
	check("after writing over")
	// Room again: everything works.
	for i := range 10 {
		path := fmt.Sprintf("%s/%d", dir, i)
		must(t, os.Remove(path))
		delete(kept, path)
	}
	freed(t, dir)
	content := noise(99, 200000)
	harness.Eventually(t, time.Minute, "the room of what was removed", func() bool { // the kernel lets go of it a little later
		err := store(dir+"/again", content)
		if !errors.Is(err, want) {
			must(t, err)
		}
		return err == nil
	})
	kept[dir+"/again"] = content
	must(t, appendSync(log, record))
	check("with room again")
	for path := range kept {
		must(t, os.Remove(path))
	}
	must(t, os.Remove(dir+"/log"))
	freed(t, dir)
}

// hugeTruncate: extending a file far beyond the disk works (with holes) or fails at once, and leaves it as it was.
func hugeTruncate(t *testing.T, dir string, want unix.Errno) {
	t.Helper()
	path := dir + "/0"
	before := read(t, path)
	switch err := os.Truncate(path, 1<<40); {
	case err == nil:
		must(t, os.Truncate(path, int64(len(before))))
	case !errors.Is(err, want) && !errors.Is(err, unix.EFBIG):
		t.Errorf("truncate to 1 TiB: %v", err)
	}
	if got := read(t, path); !bytes.Equal(got, before) {
		t.Errorf("after a huge truncate: %s", difference(got, before))
	}
}

// freed lets the filesystem give back what was removed.
func freed(t *testing.T, dir string) {
	t.Helper()
	d := open(t, dir, os.O_RDONLY)
	must(t, unix.Syncfs(int(d.Fd())))
	unix.Sync()
}

// overwrite changes bytes of a file in place: it works, or it fails and the file has what it had.
func overwrite(t *testing.T, path string, kept map[string][]byte, want unix.Errno) {
	t.Helper()
	f := open(t, path, os.O_RDWR)
	piece := noise(31, 5000)
	n, err := f.WriteAt(piece, 50000)
	if err != nil && !errors.Is(err, want) {
		t.Errorf("writing over: %v", err)
	}
	if err := f.Sync(); err != nil && !errors.Is(err, want) {
		t.Errorf("fsync: %v", err)
	}
	copy(kept[path][50000:], piece[:n])
	must(t, f.Close())
}

// store writes a file so that it is on disk when there is no error; it removes what it could not finish.
func store(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func appendSync(f *os.File, record []byte) error {
	if _, err := f.Write(record); err != nil {
		return err
	}
	return f.Sync()
}
