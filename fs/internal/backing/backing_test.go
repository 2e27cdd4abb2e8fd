package backing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// store returns a directory of the store and its path.
func store(t testing.TB) (*Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	return d, path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	d, path := store(t)
	own := Owner{UID: 1234, GID: 4321}
	f, err := d.Create("file", 0o6640, own)
	must(t, err)
	defer f.Close()
	if _, err := d.Create("file", 0o600, own); !errors.Is(err, unix.EEXIST) {
		t.Errorf("created twice: %v", err)
	}
	if n, err := f.WriteAt([]byte("content"), 3); n != 7 || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
	b := make([]byte, 20)
	if n, err := f.ReadAt(b, 0); n != 10 || err != io.EOF || string(b[:n]) != "\x00\x00\x00content" {
		t.Errorf("read: %q, %v", b[:n], err)
	}
	if n, err := f.ReadAt(b[:7], 3); n != 7 || err != nil {
		t.Errorf("read of all that is asked: %d, %v", n, err)
	}
	must(t, f.Truncate(5))
	must(t, f.Sync(true))
	must(t, f.Sync(false))
	must(t, f.Utimes(Times{{Sec: 10, Nsec: 1}, {Sec: 20, Nsec: 2}}))
	st, err := d.Stat("file")
	must(t, err)
	self, err := f.Stat()
	must(t, err)
	if !st.Same(&self) || st.Key() != self.Key() {
		t.Error("the open file and its entry are not the same")
	}
	if st.Size != 5 || st.Mode != unix.S_IFREG|0o6640 || st.UID != 1234 || st.GID != 4321 || st.Mtime.Sec != 20 || st.Mtime.Nsec != 2 || st.Atime.Sec != 10 {
		t.Errorf("%+v", st)
	}
	if got, err := os.ReadFile(path + "/file"); err != nil || string(got) != "\x00\x00\x00co" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestUnchanged changes a file again and again right after it was looked at: no change goes unseen, and a file at rest is
// known to be as it was.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	d, _ := store(t)
	f, err := d.Create("file", 0o600, Owner{})
	must(t, err)
	defer f.Close()
	byTime := 0 // how many of the changes the times alone show
	for i := range uint32(200) {
		before, err := d.Stat("file")
		must(t, err)
		must(t, f.Chown(Owner{UID: i + 1}))
		after, err := d.Stat("file")
		must(t, err)
		if before.Unchanged(&after) {
			t.Fatalf("change %d was not seen", i)
		}
		if before.Ctime != after.Ctime {
			byTime++
		}
	}
	t.Logf("of 200 changes the change time shows %d", byTime)
	time.Sleep(2 * Settle)
	before, err := f.Stat()
	must(t, err)
	after, err := d.Stat("file")
	must(t, err)
	if !before.Settled() || !before.Unchanged(&after) {
		t.Error("a file at rest is taken for one that was changed")
	}
}

// TestNoLinksFollowed checks that no call goes through a symbolic link, and none out of the directory.
func TestNoLinksFollowed(t *testing.T) {
	t.Parallel()
	d, path := store(t)
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/secret", []byte("x"), 0o600))
	must(t, os.Symlink(outside, path+"/dir"))
	must(t, os.Symlink(outside+"/secret", path+"/file"))
	if _, err := d.OpenDir("dir"); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("directory: %v", err)
	}
	if _, err := d.Open("file", unix.O_RDONLY); !errors.Is(err, unix.ELOOP) {
		t.Errorf("file: %v", err)
	}
	if _, err := d.Create("file", 0o600, Owner{}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("create: %v", err)
	}
	if _, err := d.ReadSmall("file", 100); err == nil {
		t.Error("small file was read through a link")
	}
	if err := d.WriteDurable("file", []byte("y")); err == nil {
		t.Error("written through a link")
	}
	must(t, d.Chown("file", Owner{UID: 77, GID: 77}))
	if st, err := d.Stat("file"); err != nil || st.Type() != unix.S_IFLNK || st.UID != 77 {
		t.Errorf("%+v, %v", st, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(outside+"/secret", &st))
	if st.Uid == 77 {
		t.Error("the target was changed")
	}
	if b, _ := os.ReadFile(outside + "/secret"); string(b) != "x" {
		t.Error("the target was written")
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	d, _ := store(t)
	own := Owner{UID: 12, GID: 34}
	must(t, d.Mkdir("dir", 0o2750, own))
	must(t, d.Mknod("fifo", unix.S_IFIFO|0o640, own))
	must(t, d.Symlink("link", "some/where", own))
	for name, mode := range map[string]uint32{"dir": unix.S_IFDIR | 0o2750, "fifo": unix.S_IFIFO | 0o640, "link": unix.S_IFLNK | 0o777} {
		if st, err := d.Stat(name); err != nil || st.Mode != mode || st.UID != 12 || st.GID != 34 {
			t.Errorf("%s: mode %o, %d:%d, %v", name, st.Mode, st.UID, st.GID, err)
		}
	}
	if target, err := d.Readlink("link"); err != nil || target != "some/where" {
		t.Errorf("target %q, %v", target, err)
	}
	sub, err := d.OpenDir("dir")
	must(t, err)
	defer sub.Release()
	f, err := d.Create("a", 0o600, Owner{})
	must(t, err)
	must(t, f.Close())
	must(t, d.Link("a", sub, "b"))
	must(t, d.Rename("a", sub, "c", 0))
	if st, err := sub.Stat("b"); err != nil || st.Nlink != 2 {
		t.Errorf("%d links, %v", st.Nlink, err)
	}
	if err := sub.Rename("b", sub, "c", unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Errorf("rename over: %v", err)
	}
	if err := d.Rmdir("dir"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("rmdir: %v", err)
	}
	must(t, sub.Unlink("b"))
	must(t, sub.Unlink("c"))
	must(t, d.Rmdir("dir"))
	must(t, d.Sync())
	if _, err := d.Stat("dir"); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "statx") {
		t.Errorf("error without the name of the call: %v", err)
	}
}

// TestWriteDurable checks what FORMAT.md N5 asks of side entries.
func TestWriteDurable(t *testing.T) {
	t.Parallel()
	d, path := store(t)
	for i, content := range []string{"first content", "second", "a third one that is longer", ""} {
		must(t, d.WriteDurable("side", []byte(content)))
		got, err := d.ReadSmall("side", 100)
		if err != nil || string(got) != content {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v left, %v", entries, err)
	}
	if st, err := d.Stat("side"); err != nil || st.Mode != unix.S_IFREG|0o600 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
}

func TestReadSmall(t *testing.T) {
	t.Parallel()
	d, path := store(t)
	must(t, os.WriteFile(path+"/ten", []byte("0123456789"), 0o600))
	must(t, os.Mkdir(path+"/dir", 0o700))
	must(t, unix.Mkfifo(path+"/fifo", 0o600))
	if b, err := d.ReadSmall("ten", 10); err != nil || len(b) != 10 {
		t.Errorf("%q, %v", b, err)
	}
	for _, name := range []string{"ten", "dir", "fifo"} { // the FIFO must not block either
		if _, err := d.ReadSmall(name, 9); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.ReadSmall("none", 9); !errors.Is(err, unix.ENOENT) {
		t.Errorf("none: %v", err)
	}
}

func TestXAttrs(t *testing.T) {
	t.Parallel()
	d, _ := store(t)
	if err := SetXAttr(d.Fd(), "user.probe", nil, 0); errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal("the temporary directory has no extended attributes: set TMPDIR to one that has")
	}
	must(t, RemoveXAttr(d.Fd(), "user.probe"))
	for _, n := range []int{0, 1, 511, 512, 513, 3000} {
		value := bytes.Repeat([]byte("v"), n)
		must(t, SetXAttr(d.Fd(), "user.a", value, 0))
		if got, err := GetXAttr(d.Fd(), "user.a"); err != nil || !bytes.Equal(got, value) {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
	}
	must(t, RemoveXAttr(d.Fd(), "user.a"))
	if _, err := GetXAttr(d.Fd(), "user.a"); !errors.Is(err, unix.ENODATA) {
		t.Errorf("removed: %v", err)
	}
	for i := range 40 {
		must(t, SetXAttr(d.Fd(), fmt.Sprintf("user.name-of-an-attribute-%d", i), []byte("x"), 0))
	}
	if list, err := ListXAttr(d.Fd()); err != nil || bytes.Count(list, []byte{0}) < 40 {
		t.Errorf("%d names, %v", bytes.Count(list, []byte{0}), err)
	}
}

// TestLister lists more entries than one call of the kernel returns, from every offset on.
func TestLister(t *testing.T) {
	t.Parallel()
	d, path := store(t)
	want := []string{".", ".."}
	for i := range 3000 {
		name := fmt.Sprintf("%04d-%s", i, strings.Repeat("x", i%100))
		must(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
		want = append(want, name)
	}
	own, err := d.OpenDir(".")
	must(t, err)
	l := NewLister(own)
	defer l.Close()
	var prepared [Batches][]Entry
	l.Prepare(func(entries []Entry, of int) { prepared[of] = slices.Clone(entries) })
	rest := func() (out []Entry) {
		t.Helper()
		for {
			e, ok, err := l.Peek()
			must(t, err)
			if !ok {
				return out
			}
			if _, at, of := l.Batch(); prepared[of][at] != e {
				t.Fatalf("%v is listed, %v was prepared", e, prepared[of][at])
			}
			out = append(out, e)
			l.Skip()
		}
	}
	all := rest()
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
		if wantType := uint32(unix.S_IFREG); e.Name[0] != '.' && e.Type != wantType && e.Type != 0 {
			t.Errorf("%s: type %o", e.Name, e.Type)
		}
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Fatalf("%d names, want %d", len(names), len(want))
	}
	for _, i := range []int{0, 1, 100, 1499, 2500, len(all) - 2, len(all) - 1, 7} {
		must(t, l.Seek(all[i].Next))
		if left := rest(); len(left) != len(all)-i-1 || len(left) > 0 && left[0] != all[i+1] {
			t.Errorf("from entry %d on: %d entries, want %d", i, len(left), len(all)-i-1)
		}
	}
	must(t, l.Seek(0))
	if again := rest(); len(again) != len(all) {
		t.Errorf("from the beginning: %d entries", len(again))
	}
}

// TestListerSeesChanges checks that offsets stay valid while entries go, and that nothing that stays is missed or told
// twice.
func TestListerSeesChanges(t *testing.T) {
	t.Parallel()
	d, path := store(t)
	for i := range 5000 {
		must(t, os.WriteFile(fmt.Sprintf("%s/%04d", path, i), nil, 0o600))
	}
	own, err := d.OpenDir(".")
	must(t, err)
	l := NewLister(own)
	defer l.Close()
	seen := map[string]int{}
	for i := 0; ; i++ {
		e, ok, err := l.Peek()
		must(t, err)
		if !ok {
			break
		}
		seen[e.Name]++
		l.Skip()
		if e.Name[0] != '.' && i%2 == 0 {
			must(t, d.Unlink(e.Name))
		}
		must(t, l.Seek(e.Next))
	}
	if len(seen) != 5002 {
		t.Errorf("%d names seen", len(seen))
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s was told %d times", name, n)
		}
	}
}

// TestListerOfRemoved checks that a directory that was removed meanwhile ends where it is, as readdir(3) has it.
func TestListerOfRemoved(t *testing.T) {
	t.Parallel()
	d, path := store(t)
	must(t, os.Mkdir(path+"/gone", 0o700))
	own, err := d.OpenDir("gone")
	must(t, err)
	l := NewLister(own)
	defer l.Close()
	must(t, d.Rmdir("gone"))
	if e, ok, err := l.Peek(); ok || err != nil {
		t.Errorf("%v, %v, %v; want the end", e, ok, err)
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	d, err := OpenRoot(t.TempDir())
	must(t, err)
	d.Retain()
	d.Release()
	if _, err := d.StatSelf(); err != nil {
		t.Errorf("closed while counted: %v", err)
	}
	d.Release()
	if _, err := OpenRoot("/does/not/exist"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
}

// dirent is a struct linux_dirent64.
func dirent(ino, next uint64, typ uint8, name string, pad int) []byte {
	b := binary.NativeEndian.AppendUint64(nil, ino)
	b = binary.NativeEndian.AppendUint64(b, next)
	b = binary.NativeEndian.AppendUint16(b, uint16(19+len(name)+1+pad))
	b = append(append(append(b, typ), name...), 0)
	return append(b, make([]byte, pad)...)
}

// FuzzParseDirent: what the kernel writes is read back, and rubbish of the smallest size or more does no harm.
func FuzzParseDirent(f *testing.F) {
	f.Fuzz(func(t *testing.T, ino, next uint64, typ uint8, name string, pad uint8, raw []byte) {
		if len(raw) >= 19 {
			if e := parseDirent(raw); len(e.Name) > len(raw)-19 || strings.Contains(e.Name, "\x00") {
				t.Fatalf("%x has name %q", raw, e.Name)
			}
		}
		if strings.Contains(name, "\x00") || len(name) > 255 {
			return
		}
		want := Entry{Name: name, Ino: ino, Next: next, Type: uint32(typ) << 12}
		if got := parseDirent(dirent(ino, next, typ, name, int(pad%8))); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}
