// Package worker tests conversions from outside: a plain maildir is taken over while a real Dovecot reads it, the daemon
// is killed in the middle, and decrypt leads back to where it began.
package worker

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/session/imaphost"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site makes a site with further lines of configuration whose daemon is not started.
func site(t testing.TB, config string) *harness.Site {
	t.Helper()
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir", Epoch: "3s"})
	f, err := os.OpenFile(s.Config, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(config)
	must(t, errors.Join(err, f.Close()))
	return s
}

// markers are in every message of maildir, in its text and in its name.
const (
	textMarker = "body-marker-4711"
	nameMarker = "namemarker"
)

// maildir fills a plain maildir as a server without mailcryptfs left it: messages with flags and dates, two folders, a
// file of the server, a hard link, and names of all lengths.
func maildir(t testing.TB, box string, messages int) {
	t.Helper()
	began := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, folder := range []string{"", ".Sent"} {
		harness.Maildir(t, 0, box, folder)
	}
	for i := range messages {
		text := fmt.Appendf(nil, "From: a@example.net\nDate: x\nSubject: %d %s\n\n", i, textMarker)
		for len(text) < i*97%20000 {
			text = fmt.Appendf(text, "line %d of message %d %s\n", len(text), i, textMarker)
		}
		flags := []string{"", "S", "RS", "FS", "T"}[i%5]
		name := fmt.Sprintf("%d.M%dP1_%s.host,S=%d:2,%s", began.Unix()+int64(i), i, nameMarker, len(text), flags)
		if i%50 == 7 {
			name = fmt.Sprintf("%d.M%dP1_%s.%s:2,", began.Unix()+int64(i), i, nameMarker, strings.Repeat("long", 40))
		}
		folder := ""
		if i%7 == 3 {
			folder = ".Sent"
		}
		path := filepath.Join(box, folder, "cur", name)
		must(t, os.WriteFile(path, text, 0o600))
		must(t, os.Chtimes(path, time.Time{}, began.Add(time.Duration(i)*time.Hour)))
		if i == 3 {
			must(t, os.Link(path, filepath.Join(box, "cur", fmt.Sprintf("%d.M%dP1_%s.linked:2,", began.Unix(), i, nameMarker))))
		}
	}
	must(t, os.WriteFile(filepath.Join(box, "subscriptions"), []byte("Sent "+textMarker+"\n"), 0o600))
	must(t, filepath.WalkDir(box, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, imaphost.UID, imaphost.UID))
	}))
}

var linkCount = regexp.MustCompile(`nlink \d+`)

// snapshot describes everything below a directory as a mail server sees it. Files of the server itself, which change
// when it is used, are left out.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || strings.Contains(d.Name(), "dovecot") {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("mode %o uid %d gid %d nlink %d", st.Mode, st.Uid, st.Gid, st.Nlink)
		if !d.IsDir() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" size %d mtime %d sha %x", st.Size, st.Mtim.Nano(), sha256.Sum256(content))
		} else if !strings.Contains(path, "/cur") && !strings.Contains(path, "/tmp") {
			text = "directory"
		}
		all[rel] = text
		return nil
	})
	must(t, err)
	return all
}

func same(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for path, w := range want {
		if got[path] != w {
			t.Errorf("%s: %s is %q, want %q", what, path, got[path], w)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %s was not there", what, path)
		}
	}
}

// progress is a part of what status says.
type progress struct {
	Plain      bool `json:"kept_plain"`
	Conversion *struct {
		Goal, State string
		Left, Done  int64
		Bytes       int64
		Problem     string
		Rate        float64 `json:"entries_per_second"`
		ByteRate    float64 `json:"bytes_per_second"`
	}
}

func status(t testing.TB, s *harness.Site, user string) (p progress) {
	t.Helper()
	text, err := json.Marshal(s.Status(t, "--user", user))
	must(t, errors.Join(err, json.Unmarshal(text, &p)))
	return p
}

// converted waits until the background has done what it could for the user.
func converted(t testing.TB, s *harness.Site, user string) progress {
	t.Helper()
	var p progress
	harness.Eventually(t, 2*time.Minute, "everything is converted", func() bool {
		p = status(t, s, user)
		return p.Conversion != nil && p.Conversion.State == "done"
	})
	return p
}

// noClear fails the test if a marker is found in the tree of the store, as a name or as content.
func noClear(t testing.TB, s *harness.Site) {
	t.Helper()
	if found := harness.FindClear(t, []string{textMarker, nameMarker}, s.Store); len(found) > 0 {
		t.Errorf("%d places in clear, for example %s", len(found), found[0])
	}
}

var fetched = regexp.MustCompile(`(?m)^\* \d+ FETCH \(.*\)\r$`)

// list is what a client knows of a folder.
func list(t testing.TB, c *imaphost.Client) string {
	t.Helper()
	lines := fetched.FindAllString(c.Do(t, "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)"), -1)
	slices.Sort(lines)
	return recent.ReplaceAllString(strings.Join(lines, "\n"), "")
}

// recent is a flag that only the first session has.
var recent = regexp.MustCompile(` ?\\Recent`)

// unchanged compares two lists.
func unchanged(t testing.TB, who, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) {
		t.Fatalf("%s sees %d messages, before there were %d", who, len(g), len(w))
	}
	for i := range g {
		if g[i] != w[i] {
			t.Fatalf("%s sees %q, before it was %q", who, g[i], w[i])
		}
	}
}

// TestTakeOver points the store at an existing maildir, logs in, and does nothing else.
func TestTakeOver(t *testing.T) {
	h := imaphost.Prepare(t)
	// Slow enough that clients see all stages.
	s := site(t, fmt.Sprintf("anvil = %q\nenroll = \"auto\"\nrecovery = \"none\"\nworker_files = 60\n", h.Anvil))
	maildir(t, filepath.Join(s.Store, "alice"), 300)
	before := snapshot(t, filepath.Join(s.Store, "alice"))
	s.Serve(t)
	same(t, "the view before", snapshot(t, filepath.Join(s.View, "alice")), before)
	h.Start(t, s, imaphost.Options{Users: map[string]string{"alice": "pw"}, Module: true})

	c := h.Login(t, "alice", "pw")
	c.Do(t, "SELECT INBOX")
	want := list(t, c)
	if n := strings.Count(want, "\n") + 1; n < 200 {
		t.Fatalf("%d messages in the list", n)
	}
	rounds, uid := 0, 0
	for p := status(t, s, "alice"); p.Conversion == nil || p.Conversion.State != "done"; p = status(t, s, "alice") {
		if p.Conversion != nil && p.Conversion.State == "stopped" {
			t.Fatalf("conversion: %+v", p.Conversion)
		}
		rounds++
		uid = uid%250 + 1
		if text := c.Do(t, "UID FETCH %d BODY.PEEK[]", uid); !strings.Contains(text, textMarker) {
			t.Errorf("message %d: %.200s", uid, text)
		}
		c.Do(t, "NOOP")
		unchanged(t, "the session", list(t, c), want)
		if rounds%3 == 0 { // somebody else, who begins afresh
			other := h.Login(t, "alice", "pw")
			other.Do(t, "SELECT INBOX")
			unchanged(t, "a new session", list(t, other), want)
			other.Do(t, "LOGOUT")
		}
	}
	t.Logf("%d rounds of reading meanwhile", rounds)
	c.Do(t, "LOGOUT")
	c = h.Login(t, "alice", "pw")
	c.Do(t, "SELECT INBOX")
	unchanged(t, "a session afterwards", list(t, c), want)
	same(t, "the view afterwards", snapshot(t, filepath.Join(s.View, "alice")), before)
	noClear(t, s)

	// The way back. Files of the server that a session has open would have to wait for its end.
	c.Do(t, "LOGOUT")
	if r := s.Call(t, nil, "decrypt", "alice", "--wait"); r.Code != 0 {
		t.Fatalf("decrypt: %d: %s%s", r.Code, r.Out, r.Err)
	}
	c = h.Login(t, "alice", "pw")
	c.Do(t, "SELECT INBOX")
	unchanged(t, "a session after decrypt", list(t, c), want)
	c.Do(t, "LOGOUT")
	same(t, "the store after decrypt", snapshot(t, filepath.Join(s.Store, "alice")), before)
	if p := status(t, s, "alice"); !p.Plain {
		t.Errorf("status: %+v", p)
	}
}

// TestKill kills the daemon at random while it converts, first there, then back.
func TestKill(t *testing.T) {
	const rounds = 10
	s := site(t, "worker_files = 120\n")
	box := filepath.Join(s.Store, "alice")
	maildir(t, box, 150)
	// A kill between the names of a file may make two files of it (README, limits): how many links these have is not compared
	// here, but in integration/crash.
	snapshot := func(t testing.TB, root string) map[string]string {
		t.Helper()
		all := snapshot(t, root)
		linked := 0
		for path, text := range all {
			if strings.Contains(path, ".M3P1_") {
				linked++
				all[path] = linkCount.ReplaceAllString(text, "nlink *")
			}
		}
		if linked != 2 {
			t.Errorf("%d names of the message that has two", linked)
		}
		return all
	}
	want := snapshot(t, box)
	s.Serve(t)
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	view := filepath.Join(s.View, "alice")
	killed := func(what string) {
		for range rounds / 2 {
			pause := time.NewTimer(time.Duration(50+rand.IntN(450)) * time.Millisecond)
			<-pause.C
			s.Kill(t)
			s.Serve(t)
			same(t, what, snapshot(t, view), want)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	killed("in the middle of encrypting")
	if r := s.Call(t, nil, "encrypt", "alice", "--wait"); r.Code != 0 {
		t.Fatalf("encrypt: %d: %s%s", r.Code, r.Out, r.Err)
	}
	same(t, "encrypted", snapshot(t, view), want)
	noClear(t, s)

	for range rounds / 2 {
		if r := s.Call(t, nil, "decrypt", "alice"); r.Code != 0 {
			t.Fatalf("decrypt: %d: %s%s", r.Code, r.Out, r.Err)
		}
		pause := time.NewTimer(time.Duration(50+rand.IntN(450)) * time.Millisecond)
		<-pause.C
		s.Kill(t)
		s.Serve(t)
		same(t, "in the middle of decrypting", snapshot(t, view), want)
		if t.Failed() {
			t.FailNow()
		}
	}
	if r := s.Call(t, nil, "decrypt", "alice", "--wait"); r.Code != 0 {
		t.Fatalf("decrypt: %d: %s%s", r.Code, r.Out, r.Err)
	}
	same(t, "decrypted", snapshot(t, view), want)
	same(t, "the store after all", snapshot(t, box), want)
	if found := temporary(t, s.Store); len(found) > 0 {
		t.Errorf("left behind: %q", found)
	}
	// The mark holds over a restart: nothing is converted back.
	s.Stop(t)
	s.Serve(t)
	if p := status(t, s, "alice"); !p.Plain || p.Conversion != nil {
		t.Errorf("status: %+v", p)
	}
}

// temporary lists the temporary files in a store that are older than the last daemon's start.
func temporary(t testing.TB, store string) (found []string) {
	t.Helper()
	must(t, filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "mc1!") {
			if info, infoErr := d.Info(); infoErr == nil && time.Since(info.ModTime()) > 24*time.Hour {
				found = append(found, path)
			}
		}
		return err
	}))
	return found
}
