package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Procs{"stuck": stuck})) }

// Exit codes of sysexits(3head) that scripts rely on.
const (
	usage, dataErr, noInput, noUser, unavailable, osErr, cantCreate, noPerm, config = 64, 65, 66, 67, 69, 71, 73, 77, 78
)

func expect(t *testing.T, r harness.Result, code int, out, stderr string) {
	t.Helper()
	if r.Code != code || !strings.Contains(r.Out, out) || !strings.Contains(r.Err, stderr) {
		t.Errorf("exit %d, want %d; %q in %q; %q in %q", r.Code, code, out, r.Out, stderr, r.Err)
	}
}

func TestLifeOfAUser(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	pw := harness.Password("alice")
	expect(t, s.Call(t, pw, "unlock", "alice"), noUser, "", "next: mailcryptfs enroll alice")
	expect(t, s.Call(t, nil, "status", "--user", "alice"), noUser, "not enrolled", "next: mailcryptfs enroll alice")
	expect(t, s.Call(t, nil, "who"), 0, "USER", "")
	expect(t, s.Call(t, nil, "who", "--json"), 0, "[]", "")
	expect(t, s.Call(t, nil, "lock", "--all"), 0, "nobody is unlocked", "")
	expect(t, s.Call(t, pw, "enroll", "alice"), 0, "alice is enrolled\n", "")
	expect(t, s.Call(t, pw, "enroll", "alice"), cantCreate, "", "enrolled already")
	expect(t, s.Call(t, []byte("other"), "unlock", "alice"), noPerm, "", "wrong password")
	expect(t, s.Call(t, nil, "status", "--user", "alice"), 0, "locked", "")
	expect(t, s.Call(t, pw, "unlock", "alice"), 0, "alice is unlocked\n", "")
	expect(t, s.Call(t, pw, "unlock", "alice"), 0, "alice is unlocked\n", "")
	expect(t, s.Call(t, nil, "status", "--user", "alice"), 0, "unlocked", "")
	expect(t, s.Call(t, nil, "lock", "alice"), 0, "alice is locked\n", "")
	expect(t, s.Call(t, nil, "lock", "alice"), 0, "alice was locked already\n", "")
}

func TestLockAll(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	users := []string{"alice", "bob@example.org", "a b;c"}
	s.Enroll(t, users...)
	s.Unlock(t, users...)
	r := s.Call(t, nil, "who", "--json")
	var who []struct {
		User     string
		Unlocked bool
		Since    time.Time
	}
	if err := json.Unmarshal([]byte(r.Out), &who); err != nil || len(who) != 3 {
		t.Fatalf("%v: %s", err, r.Out)
	}
	for i, want := range []string{"a b;c", "alice", "bob@example.org"} {
		if who[i].User != want || !who[i].Unlocked || time.Since(who[i].Since) > time.Hour {
			t.Errorf("who[%d] = %+v", i, who[i])
		}
	}
	r = s.Call(t, nil, "lock", "--all")
	for _, u := range users {
		if !strings.Contains(r.Out, u+" is locked\n") {
			t.Errorf("%s: %s", u, r.Out)
		}
	}
	if v := s.Status(t); v["unlocked"] != 0.0 || v["users"] != 3.0 {
		t.Errorf("status: %v", v)
	}
}

func TestStatusIsStable(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	v := s.Status(t)
	for _, key := range []string{"version", "pid", "started", "store", "view", "profile", "delivery", "users", "unlocked"} {
		if _, ok := v[key]; !ok {
			t.Errorf("status --json lacks %q: %v", key, v)
		}
	}
	if v["pid"] != float64(s.PID()) || v["store"] != s.Store {
		t.Errorf("status: %v", v)
	}
}

// TestPasswordInLogs looks for passwords in everything the daemon and the verbs say, also when they fail.
func TestPasswordInLogs(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	const marker = "needle in a haystack"
	for _, r := range []harness.Result{
		s.Call(t, []byte(marker), "enroll", "alice"), s.Call(t, []byte(marker+"!"), "unlock", "alice"),
		s.Call(t, []byte(marker), "unlock", "alice"), s.Call(t, []byte(marker), "enroll", "alice"), s.Call(t, []byte(marker), "unlock", "bob"),
		s.Call(t, []byte(marker+"\x00"), "unlock", "alice"), s.Call(t, []byte(marker), "verify", "--user", "alice"),
	} {
		if strings.Contains(r.Out+r.Err, marker) {
			t.Errorf("a verb printed a password: %s%s", r.Out, r.Err)
		}
	}
	if s.LogHas(marker) {
		t.Error("the daemon logged a password")
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	expect(t, s.Call(t, nil, "serve"), unavailable, "", "another daemon answers")
	// Another control socket does not help: the view is there.
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	other := *s
	other.Config = filepath.Join(t.TempDir(), "c.toml")
	text = []byte(strings.ReplaceAll(string(text), s.Control, filepath.Join(t.TempDir(), "control")))
	if err := os.WriteFile(other.Config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, other.Call(t, nil, "serve"), unavailable, "", "mounted there and alive")
	s.Status(t)
}

func TestGuardOfTheMountPoint(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Stop(t)
	info, err := os.Lstat(s.View)
	if err != nil || info.Mode() != os.ModeDir {
		t.Errorf("mount point: %v, %v", info.Mode(), err)
	}
	if err := os.Mkdir(filepath.Join(s.View, "new"), 0o700); !errors.Is(err, unix.EPERM) {
		t.Errorf("mail could land beneath the view: %v", err)
	}
	if _, err := os.Lstat(s.Control); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is still there: %v", err)
	}
	s.Serve(t)
}

func TestMountPointThatIsNotEmpty(t *testing.T) {
	s := harness.New(t, harness.Options{})
	must(t, unguard(s.View))
	must(t, os.WriteFile(filepath.Join(s.View, "mail"), []byte("x"), 0o600))
	expect(t, s.Call(t, nil, "serve"), config, "", "not empty")
	must(t, os.Remove(filepath.Join(s.View, "mail")))
	s.Serve(t)
}

// unguard takes the immutable attribute from a mount point.
func unguard(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	flags, err := unix.IoctlGetUint32(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&0x10 == 0 {
		return nil
	}
	return unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^0x10))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDeadViewIsDetached(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Kill(t)
	if _, err := os.Lstat(filepath.Join(s.View, "x")); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("no dead view: %v", err)
	}
	s.Serve(t)
	if len(s.WaitLog(t, "detached a view that a dead daemon had left")) == 0 {
		t.Error("not logged")
	}
	if _, err := os.ReadDir(s.View); err != nil {
		t.Error(err)
	}
}

func TestOtherMountIsLeftAlone(t *testing.T) {
	s := harness.New(t, harness.Options{})
	must(t, unix.Mount("tmpfs", s.View, "tmpfs", 0, ""))
	expect(t, s.Call(t, nil, "serve"), config, "", "another file system is mounted there")
	must(t, unix.Unmount(s.View, 0))
	s.Serve(t)
}

func TestUnmountedFromOutside(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	must(t, unix.Unmount(s.View, 0))
	harness.Eventually(t, time.Minute, "the daemon ends", func() bool { return !s.Running() })
	if !s.LogHas("unmounted from outside") {
		t.Error("the reason is not told")
	}
	s.Serve(t)
}

func TestHangUpChangesNothing(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	must(t, syscall.Kill(s.PID(), syscall.SIGHUP))
	s.Status(t)
}

func TestServeSaysWhatIsWrong(t *testing.T) {
	s := harness.New(t, harness.Options{})
	secret, err := os.ReadFile(s.Secret)
	must(t, err)
	must(t, os.Remove(s.Secret))
	expect(t, s.Call(t, nil, "serve"), config, "", "site secret")
	must(t, os.WriteFile(s.Secret, secret, 0o644))
	expect(t, s.Call(t, nil, "serve"), config, "", "chmod 0400")
	must(t, os.Remove(s.Secret))
	must(t, os.WriteFile(s.Secret, secret[1:], 0o400))
	expect(t, s.Call(t, nil, "serve"), config, "", "site secret")
	must(t, os.Remove(s.Secret))
	must(t, os.WriteFile(s.Secret, secret, 0o400))
	must(t, os.Chmod(s.Keyring, 0o755))
	expect(t, s.Call(t, nil, "serve"), config, "", s.Keyring)
	must(t, os.Chmod(s.Keyring, 0o700))
	s.Serve(t)
}

func TestUnlockedUsersSurviveARestart(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	s.Stop(t)
	s.Serve(t)
	if v := s.Status(t); v["unlocked"] != 1.0 {
		t.Errorf("status: %v", v)
	}
	expect(t, s.Call(t, nil, "who"), 0, "alice", "")
}

func TestVerify(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	for _, u := range []string{"alice", "bob"} {
		must(t, os.MkdirAll(filepath.Join(s.View, u, "new"), 0o700))
		must(t, os.WriteFile(filepath.Join(s.View, u, "new", "message"), []byte("Subject: x\n\nbody\n"), 0o600))
	}
	expect(t, s.Call(t, nil, "verify"), 0, "locked: bob", "")
	expect(t, s.Call(t, nil, "verify", filepath.Join(s.View, "alice")), 0, "CHECKED", "")
	expect(t, s.Call(t, nil, "verify", filepath.Join(s.View, "carol")), noInput, "", "no such file")
	expect(t, s.Call(t, nil, "verify", "/etc"), usage, "", "not in the view")
	expect(t, s.Call(t, []byte("wrong"), "verify", "--user", "bob"), noPerm, "", "wrong password")
	expect(t, s.Call(t, []byte("x"), "verify", "--user", "carol"), noUser, "", "not enrolled")
	expect(t, s.Call(t, harness.Password("bob"), "verify", "--user", "bob"), 0, "CHECKED", "")

	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(s.View, "alice/new/message"), old, old))
	damage(t, s, "bob")
	expect(t, s.Call(t, nil, "verify"), 0, "", "") // the tag of a locked user's block says nothing without the key
	for range 2 {                                  // the second time: with no daemon
		r := s.Call(t, harness.Password("bob"), "verify", "--user", "bob")
		expect(t, r, dataErr, "DAMAGE", "damaged (findings: 1)")
		if !strings.Contains(r.Out, filepath.Join(s.View, "bob/new/message")) {
			t.Errorf("the damaged file is not named: %s", r.Out)
		}
		var doc struct {
			Findings []struct{ Kind, View, User string }
			Summary  struct{ Damage int }
		}
		r = s.Call(t, harness.Password("bob"), "verify", "--user", "bob", "--json")
		if err := json.Unmarshal([]byte(r.Out), &doc); err != nil || len(doc.Findings) != 1 || doc.Summary.Damage != 1 ||
			doc.Findings[0].Kind != "block-damaged" || doc.Findings[0].User != "bob" {
			t.Errorf("%v: %s", err, r.Out)
		}
		if s.Running() {
			s.Stop(t)
		}
	}
}

// damage flips a bit in the content of the user's only message. The store shows whose it is by the time alone: the
// user's file is the one that was written last.
func damage(t *testing.T, s *harness.Site, user string) {
	t.Helper()
	var newest string
	var at time.Time
	must(t, filepath.WalkDir(s.Store, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".mailcryptfs" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if d.Type().IsRegular() && info.ModTime().After(at) {
			newest, at = path, info.ModTime()
		}
		return err
	}))
	b, err := os.ReadFile(newest)
	must(t, err)
	b[len(b)-1] ^= 1
	must(t, os.WriteFile(newest, b, 0o600))
	if info, err := os.Stat(filepath.Join(s.View, user, "new", "message")); err != nil || !info.ModTime().After(at.Add(-time.Hour)) {
		t.Fatalf("not the message of %s: %v", user, err)
	}
}
