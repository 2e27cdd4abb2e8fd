package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How long things may take on a busy machine before a test gives up.
const (
	startTime = 60 * time.Second
	stopTime  = 30 * time.Second
)

// Options are what a test can choose; a zero value takes the first of the values named.
type Options struct {
	Profile    string // "maildir", "dovecot-maildir"
	User       string // "%u", "%d/%n"
	Names      string // "encrypted", "plain"
	Delivery   string // "sealed", "site", "plaintext"
	Unenrolled string // "site", "plaintext"
	Plain      string // "serve", "refuse"
	Epoch      string // "10m"
	View       string // where the view is mounted, in a directory that exists; below the site's own when empty
	Lines      string // further lines of the configuration
	Store      Image  // the filesystem of the store
	Files      int    // limit of the daemon's open files; none when 0
	// Under is a program with arguments that runs the daemon: its argv is appended to it.
	Under []string
}

// Site is one installation: a store, a keyring directory, a view, and a daemon.
type Site struct {
	Store     string // the store, a directory of the image
	StoreFS   string // the mount point of the image
	Image     string // the file with every byte of it
	View      string // where the daemon mounts the view
	Keyring   string // the directory with one entry for each unlocked user
	Config    string // the configuration file
	Control   string // the control socket
	Secret    string // the site secret
	files     int
	under     []string
	log       *Log
	cmd       *exec.Cmd
	exited    chan struct{} // closed when the daemon has ended
	exitError *error        // valid after that; a pointer: a copy of the site may be made meanwhile
}

// New makes a site without starting its daemon: image, directories, configuration, site secret.
func New(t testing.TB, o Options) *Site {
	t.Helper()
	binary := Binary(t)
	dir := Dir(t)
	s := &Site{
		files: o.Files, under: o.Under,
		View: filepath.Join(dir, "view"), Keyring: filepath.Join(dir, "keyring"), Config: filepath.Join(dir, "mailcryptfs.toml"),
		Control: filepath.Join(dir, "control"), Secret: filepath.Join(dir, "site.secret"),
	}
	if o.View != "" {
		s.View = o.View
	}
	s.log = newLog(t, filepath.Join(dir, "log"))
	s.StoreFS, s.Image = o.Store.Mounted(t)
	s.Store = filepath.Join(s.StoreFS, "store")
	for path, mode := range map[string]os.FileMode{s.Store: 0o755, s.View: 0o755, s.Keyring: 0o700} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.Config, []byte(s.config(o)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tearDown(t) })
	Run(t, binary, "setup", "--config", s.Config)
	return s
}

// Start makes a site and starts its daemon.
func Start(t testing.TB, o Options) *Site {
	t.Helper()
	s := New(t, o)
	s.Serve(t)
	return s
}

func (s *Site) config(o Options) string {
	var b strings.Builder
	str := func(key, value, otherwise string) {
		if value == "" {
			value = otherwise
		}
		fmt.Fprintf(&b, "%s = %q\n", key, value)
	}
	str("store", s.Store, "")
	str("view", s.View, "")
	str("keyring", s.Keyring, "")
	str("control", s.Control, "")
	str("site_secret", s.Secret, "")
	str("profile", o.Profile, "maildir")
	str("user", o.User, "%u")
	str("names", o.Names, "encrypted")
	str("delivery", o.Delivery, "sealed")
	str("unenrolled", o.Unenrolled, "site")
	str("plain", o.Plain, "serve")
	str("epoch", o.Epoch, "10m")
	str("lock_memory", "", "require")
	str("log_level", "", "info")
	b.WriteString("kdf_memory_kib = 19456\nkdf_time = 1\nkdf_threads = 1\n") // as cheap as the daemon allows
	b.WriteString("xattrs = true\n")                                         // to test them too
	b.WriteString(o.Lines)
	return b.String()
}

// PID is the daemon's process id.
func (s *Site) PID() int { return s.cmd.Process.Pid }

// Kill ends the daemon with SIGKILL; the dead mount stays, and the next daemon may warn that it found one.
func (s *Site) Kill(t testing.TB) {
	t.Helper()
	s.Announce("detached a view that a dead daemon had left")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.exited
}

// Stop ends the daemon with SIGTERM, and fails the test unless it ends well and takes its mount with it.
func (s *Site) Stop(t testing.TB) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Errorf("the daemon does not end cleanly: %v\n%s", err, s.log.End())
	}
	if s.Mounted() {
		t.Error("the view is still mounted after the daemon's end")
	}
}

func (s *Site) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		return *s.exitError
	case <-ctx.Done():
	}
	// It hangs: let it say where.
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-s.exited:
	case <-time.After(stopTime):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	return errors.New("it did not end on SIGTERM")
}

// Running says whether the daemon has been started and has not ended.
func (s *Site) Running() bool {
	if s.exited == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Mounted says whether anything is mounted on the view.
func (s *Site) Mounted() bool {
	var view, parent unix.Stat_t
	if err := unix.Lstat(s.View, &view); err != nil {
		return true // a dead mount answers ENOTCONN
	}
	return unix.Lstat(filepath.Dir(s.View), &parent) == nil && view.Dev != parent.Dev
}

// tearDown ends what runs and undoes the guard of the mount point, so that the directories can be removed.
func (s *Site) tearDown(t testing.TB) {
	if s.Running() {
		if t.Failed() {
			_ = s.stop()
		} else {
			s.Stop(t)
		}
	}
	for unix.Unmount(s.View, unix.MNT_DETACH) == nil {
		continue
	}
	s.CheckLog(t)
	if err := mutable(s.View); err != nil {
		t.Errorf("cannot undo the guard of the mount point: %v", err)
	}
}

// mutable takes away the immutable flag of a directory where there is one.
func mutable(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	const immutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil // the filesystem has no such flag, or it is not set
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^immutable)
}
