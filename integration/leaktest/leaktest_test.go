package leaktest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	harness.WithoutRace()
	os.Exit(harness.Main(m, nil))
}

const dataErr, noInput, unavailable, cantCreate = 65, 66, 69, 73

// parts of a message that have a marker; the name of the folder is encrypted even where messages are not.
var parts = []string{"body", "subject", "sender", "attachment"}

// leaks is the answer of leaktest --json.
type leaks struct {
	Found []struct {
		Part, Form, Where, What string
		Count                   int
	}
	Searched struct{ Entries, Files, Bytes int64 }
	Places   []string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start makes a site with a small filesystem. Dovecot's configuration is hidden, which may name a directory of temporary
// files, and so is /var/tmp: others on this machine keep who knows what there.
func start(t testing.TB, o harness.Options) *harness.Site {
	t.Helper()
	for _, dir := range []string{"/etc/dovecot", "/var/tmp"} {
		if _, err := os.Stat(dir); err == nil {
			must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k")) // in the mount namespace of the tests
			t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
		}
	}
	o.Store.MiB = imageMiB
	return harness.Start(t, o)
}

const imageMiB = 48

// leaktest runs the verb over the site and its image.
func leaktest(t testing.TB, s *harness.Site, code int, args ...string) leaks {
	t.Helper()
	r := s.Call(t, nil, "leaktest", append([]string{"--json", "--device", s.Image}, args...)...)
	if r.Code != code {
		t.Fatalf("leaktest %q: exit %d, want %d: %s%s", args, r.Code, code, r.Out, r.Err)
	}
	var l leaks
	must(t, json.Unmarshal([]byte(r.Out), &l))
	if (len(l.Found) > 0) != (code == dataErr) || l.Searched.Bytes < imageMiB<<20 || !slices.Contains(l.Places, s.Store) || !slices.Contains(l.Places, s.Keyring) {
		t.Fatalf("leaktest %q: %+v", args, l)
	}
	return l
}

// found fails the test unless exactly these parts were found in files of the store, and on the device.
func (l *leaks) found(t testing.TB, s *harness.Site, want []string) {
	t.Helper()
	inStore, onDevice := map[string]bool{}, map[string]bool{}
	for _, f := range l.Found {
		switch {
		case strings.HasPrefix(f.Where, s.Store+"/") && f.What == "content":
			inStore[f.Part] = true
		case f.Where == s.Image && f.What == "device":
			onDevice[f.Part] = true
		default:
			t.Errorf("found %+v", f)
		}
	}
	for _, part := range want {
		if !inStore[part] || !onDevice[part] {
			t.Errorf("%s: found in the store: %v, on the device: %v", part, inStore[part], onDevice[part])
		}
	}
	if len(inStore) != len(want) || len(onDevice) != len(want) {
		t.Errorf("found %v in the store, %v on the device", inStore, onDevice)
	}
}

// user makes the directory of a user of the profile, owned by somebody else than root, and returns it.
func user(t testing.TB, s *harness.Site, profile string) string {
	t.Helper()
	dir := filepath.Join(s.View, "alice")
	if profile == "cyrus" {
		dir = filepath.Join(s.View, "user", "alice")
	}
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.Chown(dir, 8, 8))
	return dir
}

// entries are all names below the user's directory.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		all = append(all, path)
		return err
	}))
	return all
}

// TestProfiles finds nothing whatever is configured, locked and unlocked, but for delivery in plain text: that is found
// before the unlock, and gone after it.
func TestProfiles(t *testing.T) {
	for _, profile := range []string{"maildir", "dovecot-maildir", "dovecot-sdbox", "cyrus"} {
		for _, delivery := range []string{"sealed", "site", "plaintext"} {
			t.Run(profile+"-"+delivery, func(t *testing.T) {
				s := start(t, harness.Options{Profile: profile, Delivery: delivery})
				dir := user(t, s, profile)
				leaktest(t, s, 0, "alice") // not enrolled: under the site's key
				s.Enroll(t, "alice")
				before := entries(t, dir)
				ticket := filepath.Join(harness.ImageDir(), fmt.Sprintf("ticket-%s-%s", profile, delivery))
				if delivery == "plaintext" {
					l := leaktest(t, s, dataErr, "alice", "--keep", ticket)
					l.found(t, s, parts)
				} else {
					leaktest(t, s, 0, "alice", "--keep", ticket)
				}
				if len(entries(t, dir)) <= len(before) {
					t.Error("nothing was planted")
				}
				s.Unlock(t, "alice")
				converted(t, s)
				plain := leaktest(t, s, 0+onDevice(delivery), "--resume", ticket)
				for _, f := range plain.Found {
					if f.What != "device" {
						t.Errorf("after the unlock: %+v", f)
					}
				}
				if _, err := os.Stat(ticket); err == nil {
					t.Error("the file of --keep is left")
				}
				leaktest(t, s, 0+onDevice(""), "alice") // unlocked
				if after := entries(t, dir); !slices.Equal(before, after) {
					t.Errorf("entries before %q, after %q", before, after)
				}
				if r := s.Call(t, nil, "log", "alice"); !strings.Contains(r.Out, "leaktest ") {
					t.Errorf("the audit log does not tell: %s%s", r.Out, r.Err)
				}
			})
		}
	}
}

// onDevice is the exit code of a search after a conversion: the blocks of a plain file that was replaced stay on the
// device until something else is written there.
func onDevice(delivery string) int {
	if delivery == "plaintext" {
		return dataErr
	}
	return 0
}

// converted waits until the worker has left nothing plain.
func converted(t testing.TB, s *harness.Site) {
	t.Helper()
	harness.Eventually(t, time.Minute, "no plain message left", func() bool {
		plain := false
		must(t, filepath.WalkDir(s.Store, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.HasPrefix(d.Name(), "mc1") && !strings.Contains(path, "/.mailcryptfs/") {
				plain = true
			}
			return nil // entries come and go
		}))
		return !plain
	})
}

// TestControl leaves copies where they must not be, in forms that a search for the text alone would miss.
func TestControl(t *testing.T) {
	s := start(t, harness.Options{})
	dir := user(t, s, "maildir")
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	ticket := filepath.Join(harness.ImageDir(), "control")
	leaktest(t, s, 0, "alice", "--keep", ticket)
	planted, err := filepath.Glob(dir + "/new/*.leaktest")
	must(t, err)
	if len(planted) != 1 {
		t.Fatalf("planted %q", planted)
	}
	message, err := os.ReadFile(planted[0])
	must(t, err)
	must(t, os.WriteFile(s.Store+"/.mailcryptfs/copy", message, 0o600))
	folder := ""
	for _, e := range entries(t, dir) {
		if name := filepath.Base(e); strings.HasPrefix(name, ".mcleak") {
			folder = name
		}
	}
	must(t, os.Symlink("/x/"+folder, s.Store+"/link"))
	index := harness.Dir(t)
	must(t, os.WriteFile(index+"/"+folder+".idx", nil, 0o600))
	must(t, unix.Setxattr(s.Keyring, "trusted.x", []byte(folder), 0))
	// The ticket can be used again: the test ended with a leak, and nothing was removed before.
	l := leaktest(t, s, dataErr, "--resume", ticket, "--dir", index)
	got := map[string]bool{}
	for _, f := range l.Found {
		got[fmt.Sprintf("%s %s %s", f.Part, f.What, f.Where)] = true
	}
	for _, part := range parts {
		for _, want := range []string{part + " content " + s.Store + "/.mailcryptfs/copy", part + " device " + s.Image} {
			if !got[want] {
				t.Errorf("no %q in %v", want, got)
			}
		}
	}
	for _, want := range []string{"folder target of a link " + s.Store + "/link", "folder name " + index + "/" + folder + ".idx", "folder extended attribute " + s.Keyring} {
		if !got[want] {
			t.Errorf("no %q in %v", want, got)
		}
	}
	must(t, os.Remove(s.Store+"/.mailcryptfs/copy"))
}

func TestRefused(t *testing.T) {
	s := start(t, harness.Options{})
	for _, tt := range []struct {
		code int
		want string
		args []string
	}{
		{noInput, "nobody has no mail in the view", []string{"nobody"}},
		{noInput, "no such file", []string{"--resume", "/nonexistent"}},
		{noInput, "not a file that leaktest", []string{"--resume", s.Config}},
		{64, "neither a user", []string{"--resume", "/x", "alice"}},
	} {
		if r := s.Call(t, nil, "leaktest", tt.args...); r.Code != tt.code || !strings.Contains(r.Err, tt.want) {
			t.Errorf("%q: exit %d, %s", tt.args, r.Code, r.Err)
		}
	}
	user(t, s, "maildir")
	if r := s.Call(t, nil, "leaktest", "alice", "--keep", s.Config); r.Code != cantCreate {
		t.Errorf("exit %d, %s", r.Code, r.Err)
	}
	s.Stop(t)
	if r := s.Call(t, nil, "leaktest", "alice"); r.Code != unavailable || !strings.Contains(r.Err, "not mounted") {
		t.Errorf("exit %d, %s", r.Code, r.Err)
	}
}
