package export

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

// Exit codes of sysexits(3head).
const (
	usage, dataErr, noInput, noUser, cantCreate, noPerm = 64, 65, 66, 67, 73, 77
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// file is what an export has to give back of a file.
type file struct {
	content string
	mtime   time.Time
}

func message(marker string, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s@example.net\nSubject: %s\n\nFrom the first line\n>From the second\n", marker, marker)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d of %s\n", i, marker)
	}
	return b.String()
}

// hostile are names that no mail server would make, and some that are none of a message.
var hostile = []string{"1.x:2,S;rm -rf", "back\\slash", "line\nfeed", "\xff\xfe not UTF-8", "-rf", "...", strings.Repeat("l", 250), "mc1=abc"}

// fill writes a user's mail through the view and returns what an export must hold.
func fill(t testing.TB, view, user string) map[string]file {
	t.Helper()
	root := filepath.Join(view, user)
	all := map[string]file{}
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(content), 0o600))
		when := time.Date(2001, 2, 3, 4, 5, len(all)%60, 123456789, time.UTC)
		must(t, os.Chtimes(path, when, when))
		all[name] = file{content, when}
	}
	for _, folder := range []string{"", ".Work", ".Work.Äpfel &- Birnen", ".Empty"} {
		harness.Maildir(t, 0, root, folder)
		if folder == ".Empty" {
			continue
		}
		write(filepath.Join(folder, "cur/1700000001.M1P1.mail,S=100:2,FSab"), message("seen", 100))
		write(filepath.Join(folder, "cur/1700000002.M1P1.mail:2,"), message("unseen", 5000))
		write(filepath.Join(folder, "new/1700000003.M1P1.mail"), message("new", 40000))
		write(filepath.Join(folder, "dovecot-keywords"), "0 $Forwarded\n1 Junk\n")
	}
	write("new/empty", "")
	write("new/large", strings.Repeat(message("large", 1<<20), 9))
	for _, name := range hostile {
		write("cur/"+name, message("hostile", 300))
	}
	write("subscriptions", "Work\n")
	write(".dovecot.sieve", "keep;\n")
	write("sieve/tmp/x.sieve", "discard;\n")
	// What an export leaves out.
	for _, name := range []string{"tmp/unfinished", "dovecot.index.cache", ".Work/dovecot.index.log", "maildirsize", "fts-flatcurve/a/b"} {
		write(name, "left out")
		delete(all, name)
	}
	must(t, os.Symlink("/etc/passwd", filepath.Join(root, "cur/link")))
	must(t, os.Symlink("/etc", filepath.Join(root, ".Etc")))
	must(t, os.Symlink("../../../../../../etc", filepath.Join(root, "climb")))
	return all
}

// readDir returns every file below a directory; links and the like fail the test.
func readDir(t testing.TB, root string) map[string]file {
	t.Helper()
	all := map[string]file{}
	must(t, filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
			return errors.Join(err, fmt.Errorf("%s: %v", path, info.Mode()))
		}
		b, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, root+"/")] = file{string(b), info.ModTime().UTC()}
		return err
	}))
	return all
}

func readTar(t testing.TB, r io.Reader, base string) map[string]file {
	t.Helper()
	all := map[string]file{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		name, below := strings.CutPrefix(h.Name, base+"/")
		if !below || slices.Contains(strings.Split(name, "/"), "..") {
			t.Fatalf("%q leads out of the archive", h.Name)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if h.Typeflag != tar.TypeReg {
			t.Fatalf("%q is of type %q", h.Name, h.Typeflag)
		}
		b, err := io.ReadAll(in)
		must(t, err)
		all[name] = file{string(b), h.ModTime.UTC()}
	}
}

func compare(t testing.TB, got, want map[string]file, slack time.Duration) {
	t.Helper()
	for name, w := range want {
		g, ok := got[name]
		switch {
		case !ok:
			t.Errorf("%q is missing", name)
		case g.content != w.content:
			t.Errorf("%q: %d bytes differ from the %d that were written", name, len(g.content), len(w.content))
		case g.mtime.Sub(w.mtime).Abs() > slack:
			t.Errorf("%q: changed at %v, want %v", name, g.mtime, w.mtime)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%q is too much", name)
		}
	}
}

func expect(t testing.TB, r harness.Result, code int, out, stderr string) {
	t.Helper()
	if r.Code != code || !strings.Contains(r.Out, out) || !strings.Contains(r.Err, stderr) {
		t.Fatalf("exit %d, want %d; %q in %q; %q in %q", r.Code, code, out, r.Out, stderr, r.Err)
	}
}

// TestMaildir exports an unlocked user beside the daemon, a locked one with the password, and both without a daemon.
func TestMaildir(t *testing.T) {
	for _, profile := range []string{"maildir", "dovecot-maildir"} {
		for _, names := range []string{"encrypted", "plain"} {
			t.Run(profile+"-"+names, func(t *testing.T) {
				s := harness.Start(t, harness.Options{Profile: profile, Names: names})
				s.Enroll(t, "alice")
				s.Unlock(t, "alice")
				want := fill(t, s.View, "alice")
				out := harness.Dir(t)
				expect(t, s.Call(t, nil, "export", "alice", out+"/one"), 0, "exported alice: 19 messages in 4 folders", "")
				compare(t, readDir(t, out+"/one"), want, 0)
				if st, err := os.Stat(out + "/one/.Empty/cur"); err != nil || !st.IsDir() {
					t.Errorf("an empty folder is missing: %v", err)
				}
				expect(t, s.Call(t, nil, "export", "alice", out+"/one"), cantCreate, "", "exists already")
				expect(t, s.Call(t, nil, "log", "alice"), 0, "export           alice", "")
				s.Lock(t, "alice")
				expect(t, s.Call(t, nil, "export", "alice", out+"/two"), noPerm, "", "alice is locked")
				expect(t, s.Call(t, []byte("wrong"), "export", "alice", out+"/two"), noPerm, "", "wrong password")
				if _, err := os.Stat(out + "/two"); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a refused export left something: %v", err)
				}
				expect(t, s.Call(t, harness.Password("alice"), "export", "alice", "--tar", out+"/three.tar"), 0, "19 messages", "")
				f, err := os.Open(out + "/three.tar")
				must(t, err)
				defer f.Close()
				compare(t, readTar(t, f, "alice"), want, time.Second)
				s.Stop(t)
				r := s.Call(t, harness.Password("alice"), "export", "alice", "--tar", "-")
				expect(t, r, 0, "", "19 messages")
				compare(t, readTar(t, strings.NewReader(r.Out), "alice"), want, time.Second)
			})
		}
	}
}

// TestMbox compares the messages of an mbox export with what was delivered.
func TestMbox(t *testing.T) {
	s := harness.Start(t, harness.Options{User: "%d/%n"})
	s.Enroll(t, "alice@example.org")
	s.Unlock(t, "alice@example.org")
	want := fill(t, s.View, "example.org/alice")
	out := harness.Dir(t)
	expect(t, s.Call(t, nil, "export", "alice@example.org", out+"/m", "--mbox"), 0, "19 messages in 4 folders, 0 other files", "")
	files := readDir(t, out+"/m")
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, []string{"Empty.mbox", "INBOX.mbox", "Work.mbox", "Work.Äpfel &- Birnen.mbox"}) {
		t.Fatalf("files %q", got)
	}
	messages := splitMbox(t, files["Work.mbox"].content)
	var bodies []string
	for name, f := range want {
		if strings.HasPrefix(name, ".Work/cur") || strings.HasPrefix(name, ".Work/new") {
			bodies = append(bodies, f.content)
		}
	}
	slices.Sort(bodies)
	slices.SortFunc(messages, func(a, b mboxMessage) int { return strings.Compare(a.body, b.body) })
	if len(messages) != len(bodies) {
		t.Fatalf("%d messages, want %d", len(messages), len(bodies))
	}
	for i, m := range messages {
		if m.body != bodies[i] {
			t.Errorf("message %d: %.80q, want %.80q", i, m.body, bodies[i])
		}
		flags := "Status: O\n"
		if strings.Contains(m.body, "Subject: seen") {
			flags = "Status: RO\nX-Status: F\nX-Keywords: $Forwarded Junk\n"
		}
		if m.flags != flags || !strings.Contains(m.from, " 2001") {
			t.Errorf("%q has %q in %q", m.body[:40], m.flags, m.from)
		}
	}
	if n := len(splitMbox(t, files["INBOX.mbox"].content)); n != 13 {
		t.Errorf("%d messages in INBOX", n)
	}
	r := s.Call(t, nil, "export", "alice@example.org", "--tar", "-", "--mbox")
	expect(t, r, 0, "", "19 messages")
	for name, f := range readTar(t, strings.NewReader(r.Out), "alice@example.org") {
		if len(f.content) != len(files[name].content) {
			t.Errorf("%q in a tar stream has %d bytes, in a directory %d", name, len(f.content), len(files[name].content))
		}
	}
}

type mboxMessage struct{ from, flags, body string }

// splitMbox reads the mboxrd format: a message begins with a From_ line and ends with an empty line.
func splitMbox(t testing.TB, content string) []mboxMessage {
	t.Helper()
	var all []mboxMessage
	for part := range strings.SplitSeq("\n\n"+content, "\n\nFrom ") {
		if part == "" {
			continue
		}
		from, rest, _ := strings.Cut(part, "\n")
		m := mboxMessage{from: from}
		for strings.HasPrefix(rest, "Status: ") || strings.HasPrefix(rest, "X-Status: ") || strings.HasPrefix(rest, "X-Keywords: ") {
			line, after, _ := strings.Cut(rest, "\n")
			m.flags, rest = m.flags+line+"\n", after
		}
		var body strings.Builder
		for line := range strings.Lines(strings.TrimRight(rest, "\n")) {
			if strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") {
				line = line[1:]
			}
			body.WriteString(line)
		}
		m.body = body.String() + "\n"
		all = append(all, m)
	}
	return all
}

// TestDamage exports everything but a message of which a byte was changed, one that was cut, and a damaged name.
func TestDamage(t *testing.T) {
	for _, args := range [][]string{{"DIR"}, {"--tar", "FILE"}, {"DIR", "--mbox"}} {
		t.Run(strings.Join(args, ""), func(t *testing.T) {
			s := harness.Start(t, harness.Options{})
			s.Enroll(t, "alice")
			s.Unlock(t, "alice")
			harness.Maildir(t, 0, s.View, "alice")
			for i := range 5 {
				must(t, os.WriteFile(fmt.Sprintf("%s/alice/new/%d", s.View, i), []byte(message("x", 20000)[:20000+i-5]), 0o600))
			}
			damage(t, s, 20000+1-5, func(f *os.File) error {
				b := make([]byte, 2)
				_, err := f.ReadAt(b, 9000)
				must(t, err)
				_, err = f.WriteAt([]byte{^b[0], ^b[1]}, 9000)
				return err
			})
			damage(t, s, 20000+3-5, func(f *os.File) error { return f.Truncate(8000) })
			out := harness.Dir(t)
			for i := range args {
				args[i] = strings.NewReplacer("DIR", out+"/d", "FILE", out+"/f").Replace(args[i])
			}
			r := s.Call(t, nil, "export", append([]string{"alice"}, args...)...)
			expect(t, r, dataErr, "3 messages", "2 files could not be read; everything else was exported")
			for _, name := range []string{"new/1", "new/3"} {
				if !strings.Contains(r.Err, name+": not exported: ") {
					t.Errorf("%s is not named in %s", name, r.Err)
				}
			}
		})
	}
}

// damage changes the one stored file whose plaintext has size bytes (FORMAT.md C7), in five blocks.
func damage(t testing.TB, s *harness.Site, size int, do func(*os.File) error) {
	t.Helper()
	var found string
	must(t, filepath.WalkDir(s.Store, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() == int64(size)+5*30+56 {
			found = path
		}
		return err
	}))
	if found == "" {
		t.Fatalf("no stored file of %d bytes", size)
	}
	f, err := os.OpenFile(found, os.O_RDWR, 0)
	must(t, err)
	must(t, errors.Join(do(f), f.Close()))
}

func TestRefused(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	out := harness.Dir(t)
	expect(t, s.Call(t, nil, "export", "alice"), usage, "", "directory or --tar")
	expect(t, s.Call(t, nil, "export", "alice", out+"/d", "--tar", "-"), usage, "", "directory or --tar")
	expect(t, s.Call(t, nil, "export", "..", out+"/d"), usage, "", "not a valid user name")
	expect(t, s.Call(t, nil, "export", "nobody", out+"/d"), noInput, "", "nobody has no mail in the store")
	expect(t, s.Call(t, []byte("pw"), "export", "nobody", out+"/d"), noUser, "", "not enrolled")
	must(t, os.MkdirAll(s.View+"/bob/cur", 0o700))
	must(t, os.WriteFile(s.View+"/bob/cur/1", []byte(message("bob", 10)), 0o600))
	must(t, os.Symlink("/nonexistent", out+"/link"))
	for _, dest := range []string{out, out + "/missing/d", out + "/link"} {
		expect(t, s.Call(t, nil, "export", "bob", dest), cantCreate, "", "")
		expect(t, s.Call(t, nil, "export", "bob", "--tar", dest), cantCreate, "", "")
	}
	// Not enrolled: no key is needed.
	expect(t, s.Call(t, nil, "export", "bob", out+"/bob"), 0, "exported bob: 1 messages in 1 folders", "")
	if b, err := os.ReadFile(out + "/bob/cur/1"); err != nil || !bytes.Equal(b, []byte(message("bob", 10))) {
		t.Errorf("%v, %q", err, b)
	}
}
