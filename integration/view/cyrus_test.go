package view

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

const cyrusMagic = "\241\002\213\015Cyrus mailbox header\n" +
	"\"The best thing about this system was that it had lots of goals.\"\n" +
	"\t--Jim Morris on Andrew\n"

// cyrusBox makes a directory of a mailbox with the files that Cyrus keeps in it.
func cyrusBox(t testing.TB, s *harness.Site, dir, mailbox string) string {
	t.Helper()
	dir = filepath.Join(s.View, dir)
	must(t, os.MkdirAll(dir, 0o700))
	for _, name := range []string{"cyrus.index", "cyrus.cache"} {
		must(t, os.WriteFile(dir+"/"+name, []byte(name+" of "+mailbox), 0o600))
	}
	cyrusHeader(t, dir, mailbox)
	return dir
}

// cyrusHeader writes a header as Cyrus does.
func cyrusHeader(t testing.TB, dir, mailbox string) {
	t.Helper()
	f, err := os.Create(dir + "/cyrus.header.NEW")
	must(t, err)
	_, err = fmt.Fprintf(f, "%s%%(T e N %s I %s Q user.alice A %%(alice lrswipkxtecdan) U (a b))\n", cyrusMagic, mailbox, filepath.Base(dir))
	must(t, errors.Join(err, f.Sync(), f.Close()))
	must(t, os.Rename(dir+"/cyrus.header.NEW", dir+"/cyrus.header"))
}

// cyrusDeliver delivers as lmtpd does: a file in stage. is linked to its place, or copied where that is refused; the copy is
// opened again, synced and dated.
func cyrusDeliver(t testing.TB, s *harness.Site, dir string, uid int, content []byte) string {
	t.Helper()
	stage, final := fmt.Sprintf("%s/stage./4711-%d-0", s.View, uid), fmt.Sprintf("%s/%d.", dir, uid)
	must(t, os.MkdirAll(s.View+"/stage.", 0o700))
	must(t, os.WriteFile(stage, content, 0o600))
	readable(t, stage, content)
	if err := os.Link(stage, final); !errors.Is(err, unix.EXDEV) {
		t.Fatalf("link from stage.: %v, want EXDEV", err)
	}
	must(t, os.WriteFile(final, content, 0o600))
	must(t, os.Remove(stage))
	f, err := os.Open(final)
	must(t, err)
	must(t, errors.Join(f.Sync(), f.Close()))
	must(t, os.Chtimes(final, harnessTime, harnessTime))
	readable(t, final, content)
	return final
}

func encryptNow(t testing.TB, s *harness.Site, user string) {
	t.Helper()
	if r := s.Call(t, nil, "encrypt", "--wait", user); r.Code != 0 {
		t.Fatalf("encrypt %s: %d %s", user, r.Code, r.Err)
	}
}

// TestCyrus: what is a user's in Cyrus' two layouts is closed while the user is locked, and nothing else is; messages can be
// delivered all the time.
func TestCyrus(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "cyrus"})
	mine := map[string]string{} // directory -> mailbox
	for dir, mailbox := range map[string]string{
		"user/john^doe": "user.john^doe", "j/user/john^doe/Sent": "user.john^doe.Sent", "u/DELETED/user/john^doe/5F0A": "DELETED.user.john^doe.5F0A",
		"uuid/a/b/ab01": "user.john^doe", "uuid/a/c/ac02": "user.john^doe.Sent", "uuid/c/d/cd03": "DELETED.user.john^doe.5F0B",
	} {
		mine[cyrusBox(t, s, dir, mailbox)] = mailbox
	}
	others := []string{
		cyrusBox(t, s, "user/john^doe/#sieve", "user.john^doe.#sieve"), cyrusBox(t, s, "uuid/e/f/ef04", "user.john^doe.#sieve"),
		cyrusBox(t, s, "user/bob", "user.bob"), cyrusBox(t, s, "uuid/b/b/bb05", "user.bob"),
		cyrusBox(t, s, "public", "public"), cyrusBox(t, s, "uuid/0/1/0106", "public"),
	}
	text := message("cyrus", 9000)
	deliverAll := func(uid int) {
		t.Helper()
		for dir := range mine {
			cyrusDeliver(t, s, dir, uid, text)
		}
		for _, dir := range others {
			cyrusDeliver(t, s, dir, uid, text)
		}
	}
	deliverAll(1) // nobody is enrolled
	s.Enroll(t, "john.doe")
	deliverAll(2) // locked
	s.Unlock(t, "john.doe")
	deliverAll(3)
	encryptNow(t, s, "john.doe")
	s.Lock(t, "john.doe")
	deliverAll(4)
	s.Lock(t, "john.doe") // the delivery key goes, too
	closed := func(dir string) {
		t.Helper()
		for uid := 1; uid <= 4; uid++ {
			path := fmt.Sprintf("%s/%d.", dir, uid)
			refused(t, path)
			if st := stat(t, path); st.Size != int64(len(text)) || st.Mtim.Sec != harnessTime.Unix() {
				t.Errorf("%s: %d bytes of %d", path, st.Size, st.Mtim.Sec)
			}
		}
	}
	for dir, mailbox := range mine {
		closed(dir)
		readable(t, dir+"/cyrus.cache", []byte("cyrus.cache of "+mailbox))
		must(t, os.Link(dir+"/1.", dir+"/9."))
		must(t, os.Remove(dir+"/9."))
		cyrusHeader(t, dir, mailbox)
		closed(dir)
	}
	for _, dir := range others {
		for uid := 1; uid <= 4; uid++ {
			readable(t, fmt.Sprintf("%s/%d.", dir, uid), text)
		}
	}
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: %d %s", r.Code, r.Out)
	}
	s.Stop(t)
	s.Serve(t)
	for dir := range mine {
		closed(dir)
	}
	s.Unlock(t, "john.doe")
	for dir := range mine {
		for uid := 1; uid <= 4; uid++ {
			readable(t, fmt.Sprintf("%s/%d.", dir, uid), text)
		}
	}
	noClear(t, s, "body-cyrus")
}

// TestCyrusStage: a killed daemon leaves nothing in stage. that anybody could read.
func TestCyrusStage(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "cyrus", User: "*/%u"})
	left := s.View + "/default/stage./4711-1-0"
	must(t, os.MkdirAll(filepath.Dir(left), 0o700))
	must(t, os.WriteFile(left, message("stage", 9000), 0o600))
	must(t, os.WriteFile(s.View+"/default/kept", message("kept", 9000), 0o600))
	s.Kill(t)
	s.Serve(t)
	if got := names(t, filepath.Dir(left)); len(got) != 0 {
		t.Errorf("stage. has %q", got)
	}
	readable(t, s.View+"/default/kept", message("kept", 9000))
	noClear(t, s, "body-stage", "body-kept")
}

// TestCyrusChangesHands: a mailbox that is renamed to another user keeps its messages under the former owner's keys until
// that user has been there; then they are the new owner's.
func TestCyrusChangesHands(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "cyrus"})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	inbox, box := cyrusBox(t, s, "uuid/a/b/ab01", "user.alice"), cyrusBox(t, s, "uuid/a/b/ab02", "user.alice.project")
	old, fresh := message("old", 9000), message("fresh", 9000)
	cyrusDeliver(t, s, box, 1, old)
	must(t, os.Link(box+"/1.", inbox+"/1.")) // COPY
	s.Lock(t, "alice")
	cyrusHeader(t, box, "user.bob.project")
	cyrusDeliver(t, s, box, 2, fresh)
	s.Unlock(t, "bob")
	refused(t, box+"/1.")
	readable(t, box+"/2.", fresh)
	s.Stop(t)
	s.Serve(t)
	refused(t, box+"/1.")
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: %d %s", r.Code, r.Out)
	}

	s.Lock(t, "bob")
	s.Unlock(t, "alice")
	readable(t, inbox+"/1.", old)
	encryptNow(t, s, "alice")
	s.Lock(t, "alice")
	s.Lock(t, "bob") // and the delivery key that it was sealed under
	harness.Eventually(t, time.Minute, "EACCES", func() bool {
		_, err := os.ReadFile(box + "/1.")
		return errors.Is(err, unix.EACCES)
	})
	refused(t, inbox+"/1.")
	s.Unlock(t, "bob")
	readable(t, box+"/1.", old)
	readable(t, box+"/2.", fresh)
	refused(t, inbox+"/1.")
	if got := names(t, s.Store+"/.mailcryptfs/mailboxes"); len(got) != 0 {
		t.Errorf("records of former owners: %q", got)
	}
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: %d %s", r.Code, r.Out)
	}
}
