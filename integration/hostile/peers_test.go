package hostile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// TestOtherUser: who has another uid than a mailbox reaches nothing of it, of the store, of the keys, of the daemon.
func TestOtherUser(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice", "bob")
	const aliceID, bobID = 30001, 30002
	alice, bob := harness.Maildir(t, vmail, s.View, "alice"), harness.Maildir(t, vmail, s.View, "bob")
	deliver(t, alice+"/cur/1", text("alice", "1", 0, 5000))
	deliver(t, bob+"/cur/1", text("bob", "1", 0, 5000))
	for box, id := range map[string]int{alice: aliceID, bob: bobID} {
		must(t, filepath.WalkDir(box, func(path string, _ os.DirEntry, err error) error { return errors.Join(err, os.Lchown(path, id, id)) }))
	}
	must(t, os.Symlink(bob+"/cur/1", alice+"/cur/link")) // as alice could, with a shell
	ids := harness.IDs{UID: aliceID, GID: aliceID}
	stored := storePath(t, s, bob+"/cur/1")
	closed := []string{bob + "/cur/1", bob + "/cur", bob + "/dovecot-uidlist", alice + "/cur/link", s.Control, filepath.Join(filepath.Dir(s.Control), "pam.sock"),
		s.Keyring, s.Keyring + "/bob", s.Secret, s.Config, stored, filepath.Dir(stored), filepath.Join(s.Store, ".mailcryptfs"),
		recordsDir(s, "bob", "record.toml"), fmt.Sprintf("/proc/%d/mem", s.PID()), fmt.Sprintf("/proc/%d/fd", s.PID()), fmt.Sprintf("/proc/%d/environ", s.PID())}
	p := harness.SpawnAs(t, ids, "reach", closed...)
	for {
		line := p.Line(t)
		if line == "done" {
			break
		}
		if what, path, _ := strings.Cut(line, " "); strings.HasSuffix(path, "/cur/link") && (what == "rename" || what == "remove") {
			continue // the link is her own
		}
		t.Errorf("another user can %s", line)
	}
	// The same attempts do work where they may, so that the test means something.
	own := harness.SpawnAs(t, ids, "reach", alice+"/cur/1")
	if line := own.Line(t); line == "done" {
		t.Error("alice cannot reach her own message")
	}
	readable(t, bob+"/cur/1", text("bob", "1", 0, 5000))
}

// TestNames: names that mean something to the store, to the kernel or to nobody are names like others, or refused.
func TestNames(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	box := harness.Maildir(t, vmail, s.View, "alice")
	deliver(t, box+"/cur/first", text("alice", "first", 0, 100))
	storedName := filepath.Base(storePath(t, s, box+"/cur/first"))
	deliver(t, box+"/cur/"+strings.Repeat("l", 250), text("alice", "long", 0, 100))
	longStored := filepath.Base(storePath(t, s, box+"/cur/"+strings.Repeat("l", 250)))
	all := []string{"...", "..x", ".mailcryptfs", "mc1=", "mc1=AAAA", "mc1+x", "mc1~x", "mc1!x", "mc7=x", storedName, longStored, longStored + ".n", "mc1~" + storedName,
		"\xff\xfe\xfd", "\xc3\x28", "a\nb", "a\\b", "%2e%2e", "~", "-rf", " ", "\x01\x7f", "ü", "u\u0308", strings.Repeat("x", 255), strings.Repeat("\xff", 255),
		strings.Repeat("x", 172), strings.Repeat("x", 173), "first:2,S", "FIRST"}
	for i, name := range all {
		deliver(t, box+"/cur/"+name, text("alice", fmt.Sprint(i), 0, 300+i))
	}
	check := func() {
		t.Helper()
		for i, name := range all {
			readable(t, box+"/cur/"+name, text("alice", fmt.Sprint(i), 0, 300+i))
		}
		readable(t, box+"/cur/first", text("alice", "first", 0, 100))
		entries, err := os.ReadDir(box + "/cur")
		must(t, err)
		if len(entries) != len(all)+2 {
			t.Errorf("%d entries are listed, want %d", len(entries), len(all)+2)
		}
	}
	check()
	s.Stop(t)
	s.Serve(t)
	check()
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: %s%s", r.Out, r.Err)
	}

	keys := s.View + "/.mailcryptfs"
	if _, err := os.Lstat(keys); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the key records show in the view: %v", err)
	}
	// The name is free in the view: what gets it is an entry like others.
	must(t, os.MkdirAll(keys+"/users/alice", 0o700))
	if b, err := os.ReadFile(keys + "/users/alice/record.toml"); err == nil {
		t.Errorf("a key record can be read through the view: %d bytes", len(b))
	}
	must(t, os.RemoveAll(keys))
	if err := os.WriteFile(box+"/cur/"+strings.Repeat("x", 256), nil, 0o600); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a name of 256 bytes: %v", err)
	}
	if _, err := os.Stat(recordsDir(s, "alice", "record.toml")); err != nil {
		t.Errorf("the key record: %v", err)
	}
}

// rawFrame sends bytes to a socket, in pieces, and reads what comes until the other end closes.
func rawFrame(socket string, frame []byte, pause time.Duration) ([]byte, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	for len(frame) > 0 {
		n := min(len(frame), 1000)
		if pause > 0 {
			n = 1
		}
		if _, err := conn.Write(frame[:n]); err != nil {
			break // it may have closed already, with an answer
		}
		frame = frame[n:]
		time.Sleep(pause)
	}
	if c, ok := conn.(*net.UnixConn); ok && pause == 0 {
		_ = c.CloseWrite()
	}
	return io.ReadAll(conn)
}

// TestRubbishOnSockets sends malformed, oversized and slow frames to both sockets: memory stays bounded, and who asks properly
// is answered.
func TestRubbishOnSockets(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Announce(`PAM request`)
	s.Enroll(t, "alice")
	pam := filepath.Join(filepath.Dir(s.Control), "pam.sock")
	before := harness.ProcStatus(t, s.PID(), "VmRSS")
	m := rand.New(rand.NewPCG(seed(t), 3))
	good, err := wire.Request{Kind: wire.Login, User: "alice", Service: "imap", Password: harness.Password("alice")}.Append(nil)
	must(t, err)
	var wg sync.WaitGroup
	for range 40 { // slow ones, all the time
		for _, socket := range []string{pam, s.Control} {
			wg.Go(func() { _, _ = rawFrame(socket, []byte("mcpr\x01\x01\x00"), 300*time.Millisecond) })
		}
	}
	for i := range 400 {
		frame := bytes.Clone(good)
		switch i % 4 {
		case 0:
			frame[m.IntN(len(frame))] ^= 1 << m.IntN(8)
		case 1:
			frame = frame[:m.IntN(len(frame))]
		case 2:
			frame = make([]byte, m.IntN(100000))
			for i := range frame {
				frame[i] = byte(m.Uint32())
			}
		case 3:
			frame = append(frame[:8:8], bytes.Repeat([]byte("x"), m.IntN(1<<20))...)
		}
		_, err := rawFrame(pam, frame, 0)
		must(t, ignorePipe(err))
		if i%4 == 0 {
			request := fmt.Appendf(nil, "POST /v1/unlock HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<30)
			_, err := rawFrame(s.Control, append(request, frame...), 0)
			must(t, ignorePipe(err))
			_, err = rawFrame(s.Control, frame, 0)
			must(t, ignorePipe(err))
		}
	}
	wg.Wait()
	a, err := wire.Ask(t.Context(), pam, wire.Request{Kind: wire.Login, User: "alice", Service: "imap", Password: harness.Password("alice")})
	if err != nil || a.Status != wire.OK {
		t.Errorf("a login: %v %v", a, err)
	}
	if after := harness.ProcStatus(t, s.PID(), "VmRSS"); after > before+100<<10 {
		t.Errorf("%d KiB before, %d KiB after", before, after)
	}
	if bad := mistakes(journal(t, s)); len(bad) > 0 {
		t.Errorf("in the daemon's log: %q", bad)
	}
}

// ignorePipe is nil for an end that closed while something was being sent.
func ignorePipe(err error) error {
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}

// TestFloodOfLogins: hundreds of logins at once, most of them with wrong passwords: each is answered, memory is bounded by the
// derivations that run at one time, who is unlocked reads on, and who has the right password gets in.
func TestFloodOfLogins(t *testing.T) {
	const users, derivations = 12, 2
	s := harness.New(t, harness.Options{Lines: fmt.Sprintf("max_derivations = %d\n", derivations)})
	s.Announce(`PAM request`)
	s.Serve(t)
	for i := range users {
		s.Enroll(t, fmt.Sprint("user", i))
	}
	s.Unlock(t, "user0")
	own := harness.Maildir(t, vmail, s.View, "user0") + "/cur/1"
	deliver(t, own, text("user0", "1", 0, 9000))
	pam := filepath.Join(filepath.Dir(s.Control), "pam.sock")
	before, most := harness.ProcStatus(t, s.PID(), "VmRSS"), 0
	stop := make(chan struct{})
	var flood, watch sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for i := range 300 {
		flood.Go(func() {
			for j := range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				a, err := wire.Ask(ctx, pam, wire.Request{Kind: wire.Login, User: fmt.Sprint("user", 1+(i+j)%(users+3)), Service: "imap", Password: fmt.Append(nil, "wrong", i)})
				cancel()
				mu.Lock()
				answers[fmt.Sprint(a.Status, err)]++
				mu.Unlock()
			}
		})
	}
	var slowest time.Duration
	watch.Go(func() {
		for {
			began := time.Now()
			if got, err := read(own); err != nil || !bytes.Equal(got, text("user0", "1", 0, 9000)) {
				t.Errorf("%s: %v", own, err)
			}
			slowest, most = max(slowest, time.Since(began)), max(most, harness.ProcStatus(t, s.PID(), "VmRSS"))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	// user1 knows the password, and tries until it is her turn.
	harness.Eventually(t, 2*time.Minute, "the right password gets in", func() bool {
		a, err := wire.Ask(t.Context(), pam, wire.Request{Kind: wire.Login, User: "user1", Service: "imap", Password: harness.Password("user1")})
		return err == nil && a.Status == wire.OK
	})
	flood.Wait()
	close(stop)
	watch.Wait()
	t.Logf("answers %v; slowest read of another user %v; memory %d MiB, before %d MiB", answers, slowest, most>>10, before>>10)
	for answer := range answers {
		if !strings.HasSuffix(answer, "<nil>") {
			t.Errorf("a login was not answered: %s", answer)
		}
	}
	if limit := before + derivations*19456 + 100<<10; most > limit {
		t.Errorf("%d KiB, at most %d KiB wanted", most, limit)
	}
	if slowest > 5*time.Second {
		t.Errorf("a read of another user took %v", slowest)
	}
	if who := s.Call(t, nil, "who"); !strings.Contains(who.Out, "user1") {
		t.Errorf("who: %s", who.Out)
	}
}

// TestKeyringOnDisk: whatever the keyring directory is, keys never reach a disk or somebody else: the daemon puts it right, or
// does not start.
func TestKeyringOnDisk(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, s *harness.Site, disk string){
		"on disk": func(t *testing.T, s *harness.Site, disk string) {
			must(t, os.Remove(s.Keyring))
			must(t, os.Mkdir(disk, 0o700))
			config, err := os.ReadFile(s.Config)
			must(t, err)
			must(t, os.WriteFile(s.Config, bytes.ReplaceAll(config, []byte(s.Keyring), []byte(disk)), 0o600))
			s.Keyring = disk
		},
		"a link to a disk": func(t *testing.T, s *harness.Site, disk string) {
			must(t, os.Remove(s.Keyring))
			must(t, os.Mkdir(disk, 0o700))
			must(t, os.Symlink(disk, s.Keyring))
		},
		"a link to memory": func(t *testing.T, s *harness.Site, _ string) {
			must(t, os.Rename(s.Keyring, s.Keyring+".real"))
			must(t, os.Symlink(s.Keyring+".real", s.Keyring))
		},
		"open to all": func(t *testing.T, s *harness.Site, _ string) { must(t, os.Chmod(s.Keyring, 0o755)) },
		"of another":  func(t *testing.T, s *harness.Site, _ string) { must(t, os.Chown(s.Keyring, vmail, vmail)) },
		"a file": func(t *testing.T, s *harness.Site, _ string) {
			must(t, os.Remove(s.Keyring))
			must(t, os.WriteFile(s.Keyring, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.New(t, harness.Options{})
			disk := filepath.Join(s.StoreFS, "keyring")
			make(t, s, disk)
			if err := s.TryServe(t); err != nil {
				_ = unix.Unmount(disk, unix.MNT_DETACH)
				t.Logf("refused: %v", err)
				return
			}
			s.Enroll(t, "alice")
			s.Unlock(t, "alice")
			entry := s.Keyring + "/alice"
			var st unix.Statfs_t
			var dir unix.Stat_t
			must(t, unix.Statfs(entry, &st))
			must(t, unix.Stat(s.Keyring, &dir))
			if st.Type != unix.TMPFS_MAGIC || dir.Uid != 0 || dir.Mode&0o777 != 0o700 {
				t.Errorf("the entry lies on a filesystem of type %#x in a directory of %d with mode %o", st.Type, dir.Uid, dir.Mode&0o777)
			}
			s.Stop(t)
			_ = unix.Unmount(s.Keyring, unix.MNT_DETACH)
			if entries, err := os.ReadDir(disk); err == nil && len(entries) > 0 {
				t.Errorf("on the disk: %v", entries)
			}
		})
	}
}
