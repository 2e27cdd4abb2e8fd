package view

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// childHold PATH opens and maps a file and reads its first page, then obeys: "resident" answers how many pages of the file
// the kernel holds, "read" reads and compares all of it by the handle and by the mapping, "all" reads all by the handle.
func childHold(c *harness.Child) error {
	f, err := os.Open(c.Args[0])
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if err := c.Say("%d", m[0]); err != nil {
		return err
	}
	return c.Obey(func(line string) (string, error) {
		if line == "resident" {
			n, err := resident(f, len(m))
			return fmt.Sprint(n), err
		}
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
		if err == nil && line == "read" && !bytes.Equal(b, m) {
			err = errors.New("the mapping differs from what read gives")
		}
		return fmt.Sprint(len(b)), err
	})
}

// resident counts the pages of a file in the kernel's cache; a fresh mapping asks without touching any.
func resident(f *os.File, size int) (n int, err error) {
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	vec := make([]byte, (size+4095)/4096)
	if err := mincore(m, vec); err != nil {
		return 0, err
	}
	for _, v := range vec {
		n += int(v & 1)
	}
	return n, unix.Munmap(m)
}

// entryState is what must not change by locking.
type entryState struct {
	mode, uid, gid uint32
	ino, nlink     uint64
	size           int64
	mtime          unix.Timespec
}

func snapshot(t *testing.T, box string) map[string]entryState {
	t.Helper()
	all := map[string]entryState{}
	must(t, filepath.WalkDir(box, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st := stat(t, path)
		all[path] = entryState{st.Mode, st.Uid, st.Gid, st.Ino, st.Nlink, st.Size, st.Mtim}
		return nil
	}))
	return all
}

// TestLocked: locking changes one thing only, that content of private files cannot be opened.
func TestLocked(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir"})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	mail := map[string][]byte{}
	for i, size := range []int{0, 100, 4010, 4011, 5000, 100000, 3 << 20} {
		content := message(fmt.Sprint("m", i), size)[:max(size, 1)]
		if size == 0 {
			content = nil
		}
		path := deliver(t, box, fmt.Sprintf("170000000%d.M%dP1.host,S=%d", i, i, len(content)), content)
		date := []unix.Timespec{{Sec: 1}, {Sec: 1700000000 + int64(i), Nsec: 1234}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, date, 0))
		mail[path] = content
	}
	cache, uidlist := box+"/dovecot.index.cache", box+"/dovecot-uidlist"
	mail[cache] = message("cache", 20000)
	must(t, os.WriteFile(cache, mail[cache], 0o600))
	must(t, os.WriteFile(uidlist, []byte("3 V1 N1\n"), 0o600))
	before := snapshot(t, box)
	big := box + "/new/1700000006.M6P1.host,S=3145728"
	hold := harness.Spawn(t, "hold", big)
	hold.Line(t)
	warm := harness.Spawn(t, "hold", box+"/new/1700000005.M5P1.host,S=100000")
	warm.Line(t)
	say(t, warm, "all", "100000")

	s.Lock(t, "alice")
	if isUnlocked(t, s, "alice") {
		t.Error("status says unlocked")
	}
	for path, content := range mail {
		if len(content) > 0 { // an empty file has no content to refuse
			refused(t, path)
		}
		if err := os.Truncate(path, 10); len(content) > 0 && !errors.Is(err, unix.EACCES) {
			t.Errorf("truncate of a locked file: %v, want EACCES", err)
		} else if len(content) == 0 {
			must(t, os.Truncate(path, 0))
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1}, before[path].mtime}, 0))
		}
	}
	if after := snapshot(t, box); !reflect.DeepEqual(after, before) {
		t.Errorf("locking changed attributes:\n%v\n%v", after, before)
	}
	harness.Eventually(t, time.Minute, "no cached page", func() bool {
		warm.Tell(t, "resident")
		return warm.Line(t) == "0"
	})
	// Handles and mappings from before go on, also where nothing was read yet.
	say(t, hold, "read", fmt.Sprint(len(mail[big])))
	say(t, warm, "read", "100000")
	refused(t, big)
	t.Run("Entries", func(t *testing.T) { changeEntries(t, box, mail) })
	t.Run("Meta", func(t *testing.T) { useMeta(t, box, uidlist) })
	t.Run("Delivery", func(t *testing.T) {
		content := message("while-locked", 30000)
		path := deliver(t, box, "1800000000.M1P1.host", content)
		readable(t, path, content) // the deliverer reads it back
		mail[path] = content
	})
	hold.Wait(t)
	warm.Wait(t)
	if r := s.Call(t, []byte("wrong"), "unlock", "alice"); r.Code == 0 {
		t.Error("a wrong password unlocked")
	}
	s.Unlock(t, "alice")
	for path, content := range mail {
		readable(t, path, content)
	}
}

func say(t testing.TB, p *harness.Proc, line, want string) {
	t.Helper()
	p.Tell(t, line)
	p.Expect(t, want)
}

// changeEntries renames, links, touches and removes locked messages; mail follows the names.
func changeEntries(t *testing.T, box string, mail map[string][]byte) {
	for path, content := range mail {
		if filepath.Dir(path) != box+"/new" || len(content) == 0 {
			continue
		}
		cur := box + "/cur/" + filepath.Base(path) + ":2,S"
		st := stat(t, path)
		must(t, os.Rename(path, cur))
		must(t, os.Rename(cur, cur+"F"))
		cur += "F"
		must(t, os.Link(cur, box+"/tmp/copy"))
		if got := stat(t, cur); got.Size != int64(len(content)) || got.Nlink != 2 || got.Mtim != st.Mtim || got.Ino != st.Ino {
			t.Errorf("after rename and link: %+v", got)
		}
		refused(t, cur)
		refused(t, box+"/tmp/copy")
		must(t, os.Remove(box+"/tmp/copy"))
		must(t, os.Chmod(cur, 0o640))
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, cur, []unix.Timespec{{Sec: 9}, {Sec: 99, Nsec: 5}}, 0))
		if got := stat(t, cur); got.Nlink != 1 || got.Mtim != (unix.Timespec{Sec: 99, Nsec: 5}) || got.Size != int64(len(content)) {
			t.Errorf("after unlink, chmod, utimes: %+v", got)
		}
		delete(mail, path)
		mail[cur] = content
	}
	gone := box + "/cur/gone"
	for path := range mail {
		if filepath.Dir(path) == box+"/cur" {
			must(t, os.Rename(path, gone))
			delete(mail, path)
			break
		}
	}
	must(t, os.Remove(gone))
	if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a removed message: %v", err)
	}
	sent := harness.Maildir(t, vmail, box, ".Sent")
	must(t, os.Rename(sent, box+"/.Archive"))
}

// useMeta: files that mail servers need for a locked user too.
func useMeta(t *testing.T, box, uidlist string) {
	f, err := os.OpenFile(uidlist, os.O_RDWR|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("1 :msg\n")
	must(t, errors.Join(err, f.Sync(), f.Close()))
	readable(t, uidlist, []byte("3 V1 N1\n1 :msg\n"))
	must(t, os.WriteFile(uidlist+".tmp", []byte("new"), 0o600))
	must(t, os.Rename(uidlist+".tmp", uidlist))
	readable(t, uidlist, []byte("new"))
	must(t, os.WriteFile(box+"/maildirsize", []byte("1000S\n"), 0o600))
}

// TestTwoUsers: the state of one user says nothing of another, and nothing moves from tree to tree with its content.
func TestTwoUsers(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir", User: "%d/%n"})
	alice, bob := "alice@example.org", "bob@example.org"
	s.Enroll(t, alice, bob)
	a, b := harness.Maildir(t, vmail, s.View, "example.org/alice"), harness.Maildir(t, vmail, s.View, "example.org/bob")
	s.Unlock(t, alice, bob)
	am := deliver(t, a, "m1", message("of-alice", 9000))
	bm := deliver(t, b, "m1", message("of-bob", 9000))
	s.Lock(t, bob)
	readable(t, am, message("of-alice", 9000))
	refused(t, bm)
	for _, c := range []struct{ from, to string }{{am, b + "/new/x"}, {bm, a + "/new/x"}, {a + "/cur", b + "/sub"}} {
		if err := os.Rename(c.from, c.to); !errors.Is(err, unix.EXDEV) {
			t.Errorf("rename %s to %s: %v, want EXDEV", c.from, c.to, err)
		}
		if err := os.Link(c.from, c.to); c.from != a+"/cur" && !errors.Is(err, unix.EXDEV) {
			t.Errorf("link %s to %s: %v, want EXDEV", c.from, c.to, err)
		}
	}
	if err := os.Rename(a, filepath.Dir(a)+"/carol"); !errors.Is(err, unix.EXDEV) {
		t.Errorf("rename of a user's tree: %v, want EXDEV", err)
	}
	// A copy goes under the right key.
	copied := deliver(t, b, "copy", message("of-alice", 9000))
	s.Lock(t, alice)
	s.Unlock(t, bob)
	readable(t, bm, message("of-bob", 9000))
	readable(t, copied, message("of-alice", 9000))
	refused(t, am)
	if s.Call(t, harness.Password(alice), "unlock", bob).Code == 0 && !isUnlocked(t, s, bob) {
		t.Error("the password of another user was taken")
	}
}

// TestKeyringDirectory: the directory is the truth: removing an entry locks, putting it back unlocks, rubbish does nothing.
func TestKeyringDirectory(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice", "bob")
	path := deliver(t, harness.Maildir(t, vmail, s.View, "alice"), "m", message("x", 5000))
	other := deliver(t, harness.Maildir(t, vmail, s.View, "bob"), "m", message("y", 5000))
	entry := s.Keyring + "/alice"
	drop, err := os.ReadFile(entry)
	must(t, err)
	if st := stat(t, entry); st.Mode != unix.S_IFREG|0o600 || st.Uid != 0 || st.Nlink != 1 {
		t.Errorf("entry: %+v", st)
	}
	must(t, os.Remove(entry))
	closes(t, 10*time.Second, path, message("x", 5000))
	readable(t, other, message("y", 5000))
	must(t, os.WriteFile(s.Keyring+"/.alice", drop, 0o600))
	must(t, os.Rename(s.Keyring+"/.alice", entry))
	harness.Eventually(t, time.Minute, "alice unlocked by the entry", func() bool { return isUnlocked(t, s, "alice") })
	readable(t, path, message("x", 5000))
	s.Announce(`(?i)nobody|keyring entry`)
	must(t, os.WriteFile(s.Keyring+"/.x", []byte("$argon2id$rubbish"), 0o600))
	must(t, os.Rename(s.Keyring+"/.x", s.Keyring+"/nobody"))
	readable(t, path, message("x", 5000))
	s.Lock(t, "alice")
	if _, err := os.Lstat(entry); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after lock the entry: %v", err)
	}
	refused(t, path)
}
