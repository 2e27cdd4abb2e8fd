package session

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// anvil answers on a socket as Dovecot of the version does.
func anvil(t *testing.T, version int, list string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "anvil")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serveAnvil(conn, version, list)
		}
	}()
	return path
}

func serveAnvil(conn net.Conn, version int, list string) {
	defer func() { _ = conn.Close() }()
	if version == 2 {
		_, _ = io.WriteString(conn, "VERSION\tanvil-server\t2\t0\n")
	}
	in := bufio.NewScanner(conn)
	if !in.Scan() || in.Text() != map[int]string{1: "VERSION\tanvil\t1\t0", 2: "VERSION\tanvil-client\t2\t0"}[version] {
		return
	}
	for in.Scan() {
		if in.Text() == "CONNECT-DUMP" {
			_, _ = io.WriteString(conn, list)
			return
		}
	}
}

func TestAnvil(t *testing.T) {
	t.Parallel()
	const guid = "100000000000000000000000000000f1"
	for _, tt := range []struct {
		name, list string
		version    int
		want       map[account.User]string
	}{
		{"2.3 nobody", "\n", 1, map[account.User]string{}},
		{"2.3", "imap/127.0.0.1/u2\t18291\t1\nlmtp/u3\t5\t1\npop3/::1/dir/sub\t6\t2\nimap//u4\t7\t1\nimap/u5\t8\t1\nimap/x/y\t9\t1\n\n", 1,
			map[account.User]string{"u2": "imap session of process 18291 (Dovecot)", "dir/sub": "pop3 session of process 6 (Dovecot)",
				"u4": "imap session of process 7 (Dovecot)", "u5": "imap session of process 8 (Dovecot)", "x/y": "imap session of process 9 (Dovecot)"}},
		{"2.3 escaped", "imap/127.0.0.1/a\x01tb\x011n\t1\t1\n\n", 1, map[account.User]string{"a\tb\x01n": "imap session of process 1 (Dovecot)"}},
		{"2.4 nobody", "\n\n", 2, map[account.User]string{}},
		{"2.4", "altkey1\taltkey2\n501\tuser1\timap\t1.2.3.4\t" + guid + "\t\tA\tB\n502\tuser2\tlmtp\t\t" + guid + "\t\n503\tu/3\tpop3\t\t" + guid + "\t1.0.0.2\n\n", 2,
			map[account.User]string{"user1": "imap session of process 501 (Dovecot)", "u/3": "pop3 session of process 503 (Dovecot)"}},
	} {
		a := &Anvil{Path: anvil(t, tt.version, tt.list)}
		for range 2 {
			got, err := a.InUse(t.Context(), nil)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s: %q, %v", tt.name, got, err)
			}
		}
		if a.version.Load() != int32(tt.version) {
			t.Errorf("%s: version %d", tt.name, a.version.Load())
		}
	}
}

func TestAnvilThatSaysTooLittle(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]string{
		"broken off": "imap/127.0.0.1/u2\t18291\t1\n", "no pid": "imap/127.0.0.1/u2\n\n", "nonsense": "what\t1\t1\n\n", "nothing": "",
	} {
		for version := 1; version <= 2; version++ {
			if version == 2 && name != "nothing" {
				list = "\n" + list
			}
			a := &Anvil{Path: anvil(t, version, list)}
			if got, err := a.InUse(t.Context(), nil); err == nil {
				t.Errorf("%s %d: %v", name, version, got)
			}
		}
	}
}

func TestAnvilOfAServerThatDoesNotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: gone})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{gone, filepath.Join(dir, "never"), filepath.Join(dir, "no/dir")} {
		if got, err := (&Anvil{Path: path}).InUse(t.Context(), nil); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Anvil{Path: filepath.Join(dir, "file", "x")}).InUse(t.Context(), nil); err == nil {
		t.Error("a path through a file is no error")
	}
}

// process starts a process that does nothing until the test ends or it is killed.
func process(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(t, cmd) })
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func TestCyrus(t *testing.T) {
	t.Parallel()
	c := &Cyrus{Dir: filepath.Join(t.TempDir(), "proc")}
	if got, err := c.InUse(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no directory: %v, %v", got, err)
	}
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) string {
		path := filepath.Join(c.Dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	imap, killed, reused := process(t), process(t), process(t)
	id := func(cmd *exec.Cmd) string { return fmt.Sprint(cmd.Process.Pid) }
	write(id(imap), "imap\tclient.example [192.0.2.1]\talice@example.org\texample.org!user.alice\tIdle\n")
	write(id(killed), "imap\tclient [192.0.2.1]\tbob\n")
	old := write(id(reused), "imap\tclient [192.0.2.1]\tcarol\n")
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	write(".77.new", "imap\tclient\tdave\n")
	write("notapid", "imap\tclient\tdave\n")
	write(fmt.Sprint(os.Getpid()), "lmtp\tclient\terin\n")
	kill(t, killed)
	want := map[account.User]string{"alice@example.org": "imap session of process " + id(imap) + " (Cyrus)"}
	if got, err := c.InUse(t.Context(), nil); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	// Processes are used again for other users: the file says for whom.
	write(id(imap), "imap\tclient\tfrank\t\tSelect\n")
	if got, err := c.InUse(t.Context(), nil); err != nil || len(got) != 1 || got["frank"] == "" {
		t.Errorf("%v, %v", got, err)
	}
	write(id(imap), "imap\tclient\n") // logged out
	if got, err := c.InUse(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := (&Cyrus{Dir: filepath.Join(c.Dir, "notapid")}).InUse(t.Context(), nil); err == nil {
		t.Error("a file as directory is no error")
	}
}

func TestPIDs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sessions")
	p, err := OpenPIDs(path)
	if err != nil {
		t.Fatal(err)
	}
	users := []account.User{"a", "b\xff"}
	one, two, three := process(t), process(t), process(t)
	for _, r := range []struct {
		u   account.User
		cmd *exec.Cmd
	}{{"a", one}, {"a", one}, {"a", two}, {"b\xff", three}} {
		if err := p.Register(r.u, r.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	if p.Decides("c") || !p.Decides("a") {
		t.Error("decides for the wrong users")
	}
	inUse := func(p *PIDs, want ...account.User) {
		t.Helper()
		got, err := p.InUse(t.Context(), users)
		if err != nil || len(got) != len(want) {
			t.Errorf("%v, %v, want %q", got, err, want)
		}
		for _, u := range want {
			if !strings.HasSuffix(got[u], "(registered)") {
				t.Errorf("%q: %q", u, got[u])
			}
		}
	}
	inUse(p, "a", "b\xff")
	kill(t, one)
	inUse(p, "a", "b\xff")
	// A daemon that is started again knows them, and that the other session of a has ended meanwhile.
	p.Close()
	kill(t, two)
	if p, err = OpenPIDs(path); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	inUse(p, "b\xff")
	if !p.Decides("a") {
		t.Error("a is still unlocked, and nobody would lock him")
	}
	users = []account.User{"b\xff"}
	inUse(p, "b\xff")
	if p.Decides("a") {
		t.Error("a was locked, and is remembered")
	}
	kill(t, three)
	inUse(p)
	if err := p.Register("a", one.Process.Pid); !errors.Is(err, ErrNoProcess) {
		t.Errorf("a process that is gone: %v", err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPIDs(path); err == nil {
		t.Error("a damaged file is no error")
	}
}

// TestPIDsForgotten: who was registered once, and locked since, is not one for whom registered processes decide.
func TestPIDsForgotten(t *testing.T) {
	t.Parallel()
	p, err := OpenPIDs(filepath.Join(t.TempDir(), "sessions"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	w := newWorld(0, p)
	w.unlock("a")
	one := process(t)
	if err := p.Register("a", one.Process.Pid); err != nil {
		t.Fatal(err)
	}
	w.after(t, time.Second)
	kill(t, one)
	if got := w.after(t, time.Hour); len(got) != 1 {
		t.Fatalf("locked %q", got)
	}
	w.after(t, time.Second)
	w.unlock("a") // by hand
	if got := w.after(t, time.Hour); len(got) != 0 {
		t.Errorf("locked %q, though nothing is registered for him", got)
	}
}
