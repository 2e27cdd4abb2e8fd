package mountpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	t.Parallel()
	text := `22 1 8:1 / / rw - ext4 /dev/sda1 rw
90 22 0:50 / /srv/my\040mail rw,nosuid shared:9 master:1 - fuse.mailcryptfs /var/lib/store rw,user_id=0
91 22 0:51 / /srv/my\040mail2 rw - tmpfs tmpfs rw
92 90 0:52 / /srv/my\040mail rw - tmpfs no\134ne rw
`
	got, err := parse(strings.NewReader(text), "/srv/my mail")
	if err != nil || len(got) != 2 || got[0].Type != FSType || got[0].Source != "/var/lib/store" || got[0].Minor != 50 ||
		got[1].Type != "tmpfs" || got[1].Source != `no\ne` {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := parse(strings.NewReader(text), "/srv"); err != nil || len(got) != 0 {
		t.Errorf("/srv: %+v, %v", got, err)
	}
	for _, bad := range []string{"garbage\n", "1 2 3 - tmpfs tmpfs rw\n", "22 1 8:1 / / rw ext4 /dev/sda1 rw\n"} {
		if _, err := parse(strings.NewReader(bad), "/"); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestAtFindsProc(t *testing.T) {
	t.Parallel()
	got, err := At("/proc")
	if err != nil || len(got) == 0 || got[0].Type != "proc" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: run contrib/test.sh with sudo")
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	needRoot(t)
	path := filepath.Join(t.TempDir(), "a", "view")
	t.Cleanup(func() {
		if err := Release(path); err != nil {
			t.Error(err)
		}
	})
	for range 2 { // the second time it is closed, and perhaps immutable, already
		g, err := Guard(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != os.ModeDir {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		err = os.WriteFile(filepath.Join(path, "mail"), nil, 0o600)
		if g.Immutable && !errors.Is(err, unix.EPERM) {
			t.Errorf("root could write beneath the view: %v", err)
		}
		if !g.Immutable && err == nil {
			if err := os.Remove(filepath.Join(path, "mail")); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestGuardTakesOver(t *testing.T) {
	t.Parallel()
	needRoot(t)
	path := filepath.Join(t.TempDir(), "view")
	if err := errors.Join(os.Mkdir(path, 0o777), os.Chown(path, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Release(path); err != nil {
			t.Error(err)
		}
	})
	if _, err := Guard(path); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Uid != 0 || st.Gid != 0 || st.Mode&0o7777 != 0 {
		t.Errorf("uid %d gid %d mode %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
}

func TestGuardRefuses(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	if err := errors.Join(os.Mkdir(full, 0o755), os.WriteFile(filepath.Join(full, "old mail"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Guard(full); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "old mail") {
		t.Errorf("full: %v", err)
	}
	if info, err := os.Stat(full); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("a refused directory was changed: %v, %v", info.Mode(), err)
	}
	if _, err := Guard(filepath.Join(full, "old mail")); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("file: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(full, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Guard(link); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("symbolic link: %v", err)
	}
}

func TestClear(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "with space")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if n, err := Clear(dir); n != 0 || err != nil {
		t.Errorf("nothing mounted: %d, %v", n, err)
	}
	if n, err := Clear(filepath.Join(dir, "a", "b")); n != 0 || err != nil {
		t.Errorf("nothing there: %d, %v", n, err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	if _, err := Clear(dir); !errors.Is(err, ErrOccupied) {
		t.Errorf("tmpfs: %v", err)
	}
	fd := mountFUSE(t, dir)
	if err := unix.Close(fd); err != nil { // the daemon dies
		t.Fatal(err)
	}
	if err := Probe(dir, time.Minute); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("a dead view answers: %v", err)
	}
	if n, err := Clear(dir); n != 1 || !errors.Is(err, ErrOccupied) {
		t.Errorf("a dead view over a tmpfs: %d, %v", n, err)
	}
}

func TestClearLeavesALivingView(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	fd := mountFUSE(t, dir)
	// Nobody serves the connection, but its descriptor is open: a daemon that hangs.
	if err := Probe(dir, 50*time.Millisecond); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a hanging view: %v", err)
	}
	if dead(dir, 50*time.Millisecond) {
		t.Error("a hanging view counts as dead")
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	if n, err := Clear(dir); n != 1 || err != nil {
		t.Errorf("after its death: %d, %v", n, err)
	}
	if mounts, err := At(dir); len(mounts) != 0 || err != nil {
		t.Errorf("still mounted: %+v, %v", mounts, err)
	}
}

// TestClearBesideAnother judges a view that another process has unmounted since it was found: the bare directory answers,
// which says nothing about the view.
func TestClearBesideAnother(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	fd := mountFUSE(t, dir)
	mounts, err := At(dir)
	if err != nil || len(mounts) != 1 {
		t.Fatalf("%+v, %v", mounts, err)
	}
	if err := errors.Join(unix.Unmount(dir, unix.MNT_DETACH), unix.Close(fd)); err != nil {
		t.Fatal(err)
	}
	if done, err := detach(dir, mounts[0]); done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
}

// mountFUSE mounts a view that nobody serves and returns the descriptor of its connection.
func mountFUSE(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	data := "fd=" + strconv.Itoa(fd) + ",rootmode=40000,user_id=0,group_id=0,allow_other"
	if err := unix.Mount("store", dir, FSType, unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		t.Fatal(err)
	}
	return fd
}
