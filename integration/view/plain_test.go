package view

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// existing puts an ordinary maildir into the store, as one finds it on a server, and returns its messages by view path.
func existing(t *testing.T, s *harness.Site, user string) map[string][]byte {
	t.Helper()
	box := harness.Maildir(t, vmail, s.Store, user)
	sub := harness.Maildir(t, vmail, box, ".Sent")
	mail := map[string][]byte{}
	for _, rel := range []string{"new/1.old", "cur/2.old:2,S", "cur/3.old:2,RS"} {
		for _, b := range []string{box, sub} {
			path := b + "/" + rel
			content := message("old-"+filepath.Base(rel), 9000)
			must(t, os.WriteFile(path, content, 0o600))
			must(t, os.Chown(path, vmail, vmail))
			must(t, os.Chtimes(path, harnessTime, harnessTime))
			view, err := filepath.Rel(s.Store, path)
			must(t, err)
			mail[s.View+"/"+view] = content
		}
	}
	must(t, os.WriteFile(box+"/dovecot-uidlist", []byte("3 V1 N4\n1 :1.old\n"), 0o600))
	must(t, os.Symlink("cur/2.old:2,S", box+"/a-link"))
	return mail
}

// TestPlainEntries: an existing maildir is served as it is, locked or not, and can be changed in every way.
func TestPlainEntries(t *testing.T) {
	s := harness.New(t, harness.Options{})
	mail := existing(t, s, "alice")
	s.Serve(t)
	s.Enroll(t, "alice")
	box := s.View + "/alice"
	for path, content := range mail {
		readable(t, path, content)
		if st := stat(t, path); st.Size != int64(len(content)) || st.Mtim.Sec != harnessTime.Unix() || st.Uid != vmail {
			t.Errorf("%s: %+v", path, st)
		}
	}
	if got, want := names(t, box+"/cur"), []string{"2.old:2,S", "3.old:2,RS"}; !slices.Equal(got, want) {
		t.Errorf("cur: %q, want %q", got, want)
	}
	if got, err := os.Readlink(box + "/a-link"); err != nil || got != "cur/2.old:2,S" {
		t.Errorf("link: %q, %v", got, err)
	}
	// Rename, link, remove, replace.
	old := mail[box+"/cur/2.old:2,S"]
	must(t, os.Rename(box+"/cur/2.old:2,S", box+"/cur/2.old:2,FS"))
	must(t, os.Link(box+"/cur/2.old:2,FS", box+"/.Sent/cur/linked"))
	if st := stat(t, box+"/.Sent/cur/linked"); st.Nlink != 2 {
		t.Errorf("%d links", st.Nlink)
	}
	readable(t, box+"/.Sent/cur/linked", old)
	must(t, os.Remove(box+"/cur/2.old:2,FS"))
	readable(t, box+"/.Sent/cur/linked", old)
	must(t, os.Rename(box+"/new/1.old", box+"/cur/1.old:2,"))
	must(t, os.Rename(box+"/cur", box+"/cur2"))
	must(t, os.Rename(box+"/cur2", box+"/cur"))
	readable(t, box+"/cur/1.old:2,", message("old-1.old", 9000))
	long := box + "/cur/" + string(make255('p'))
	must(t, os.Rename(box+"/cur/1.old:2,", long))
	readable(t, long, message("old-1.old", 9000))
	must(t, os.Rename(long, box+"/cur/1.old:2,"))
	// A new file beside and over them is encrypted.
	fresh := stored(t, s, func() { deliver(t, box, "4.new", message("fresh", 5000)) })
	if found := harness.FindClear(t, []string{"body-fresh"}, fresh); len(found) != 0 {
		t.Error("a new message in an old folder is in clear")
	}
	must(t, os.WriteFile(box+"/tmp/over", message("over", 5000), 0o600))
	must(t, os.Rename(box+"/tmp/over", box+"/cur/3.old:2,RS"))
	readable(t, box+"/cur/3.old:2,RS", message("over", 5000))
	if found := harness.FindClear(t, []string{"body-over"}, s.Store); len(found) != 0 {
		t.Errorf("in clear: %q", found)
	}
	if found := harness.FindClear(t, []string{"body-old-3.old"}, s.Store); len(found) != 1 { // the one in .Sent
		t.Errorf("the message that was replaced: %q", found)
	}
	must(t, os.WriteFile(box+"/dovecot-uidlist.tmp", []byte("replaced"), 0o600))
	must(t, os.Rename(box+"/dovecot-uidlist.tmp", box+"/dovecot-uidlist"))
	readable(t, box+"/dovecot-uidlist", []byte("replaced"))
	if n := names(t, box); slices.Index(n, "dovecot-uidlist") < 0 || len(n) != 6 {
		t.Errorf("the mailbox has %q", n)
	}
	must(t, os.Remove(box+"/dovecot-uidlist"))
	if _, err := os.Lstat(box + "/dovecot-uidlist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a removed file came back: %v", err)
	}
	s.Stop(t)
	s.Serve(t)
	readable(t, box+"/cur/1.old:2,", message("old-1.old", 9000))
	refused(t, box+"/new/4.new")
	s.Unlock(t, "alice")
	readable(t, box+"/new/4.new", message("fresh", 5000))
	appendTo(t, box+"/cur/1.old:2,", "appended")
	readable(t, box+"/cur/1.old:2,", append(message("old-1.old", 9000), "appended"...))
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

func make255(c byte) []byte {
	b := make([]byte, 255)
	for i := range b {
		b[i] = c
	}
	return b
}

// TestPlainRefused: with plain = "refuse" an entry that somebody puts into the store is listed, not opened, and reported.
func TestPlainRefused(t *testing.T) {
	s := harness.New(t, harness.Options{Plain: "refuse"})
	s.Announce(`plain entry is refused|a conversion is not complete`)
	existing(t, s, "alice")
	s.Serve(t)
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	path := s.View + "/alice/new/1.old"
	if st := stat(t, path); st.Size != int64(len(message("old-1.old", 9000))) {
		t.Errorf("size %d", st.Size)
	}
	if b, err := os.ReadFile(path); err == nil {
		t.Errorf("a plain entry was served: %d bytes", len(b))
	} else if errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused entry looks removed: %v", err)
	}
	s.WaitLog(t, "1.old")
	fresh := deliver(t, s.View+"/alice", "m", message("fresh", 100))
	readable(t, fresh, message("fresh", 100))
	must(t, os.Remove(path))
}

// TestRootOfStore: key records are no entries of the view, and cannot be reached through it.
func TestRootOfStore(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	if n := names(t, s.View); len(n) != 0 {
		t.Errorf("a new view has %q", n)
	}
	if _, err := os.Stat(s.View + "/.mailcryptfs"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf(".mailcryptfs in the view: %v", err)
	}
	must(t, os.Mkdir(s.View+"/.mailcryptfs", 0o700)) // a name like any other
	must(t, os.WriteFile(s.View+"/.mailcryptfs/x", []byte("x"), 0o600))
	if err := unix.Rmdir(s.View + "/.mailcryptfs"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("rmdir: %v", err)
	}
	s.Stop(t)
	s.Serve(t)
	readable(t, s.View+"/.mailcryptfs/x", []byte("x"))
	s.Unlock(t, "alice")
}
