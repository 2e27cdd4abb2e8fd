package session

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	siteKeys "github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// shipped has the following sites of the test run a binary that is built as for users: it erases what it leaves on the
// heap, and has no race detector, whose shadow memory would be measured and searched too.
func shipped(t *testing.T) {
	t.Helper()
	binary := filepath.Join(harness.Dir(t), "mailcryptfs")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/mailcryptfs/mailcryptfs/cmd/mailcryptfs")
	cmd.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	t.Setenv("MAILCRYPTFS_TEST_BINARY", binary)
}

// login sends what the PAM module sends after a password was accepted.
func login(ctx context.Context, s *harness.Site, user string, password []byte) (wire.Answer, error) {
	return wire.Ask(ctx, filepath.Join(filepath.Dir(s.Control), "pam.sock"),
		wire.Request{Kind: wire.Login, User: user, Service: "imap", Password: password})
}

// resident is the largest amount of memory that a process has had, in KiB.
func resident(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			must(t, err)
			return n
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// TestManyFirstLogins lets 30 users log in for the first time at once, each of them twice, with the default cost.
func TestManyFirstLogins(t *testing.T) {
	const users, memoryKiB, derivations = 30, 64 << 10, 3
	shipped(t)
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir"})
	text, err := os.ReadFile(s.Config)
	must(t, err)
	lines := strings.ReplaceAll(string(text), "kdf_memory_kib = 19456\n", fmt.Sprintf("kdf_memory_kib = %d\nmax_derivations = %d\nenroll = \"auto\"\nrecovery = \"none\"\n", memoryKiB, derivations))
	must(t, os.WriteFile(s.Config, []byte(lines), 0o600))
	s.Serve(t)
	before := resident(t, s.PID())
	began := time.Now()
	var all sync.WaitGroup
	for i := range users {
		for range 2 {
			all.Go(func() {
				user := fmt.Sprintf("user%d", i)
				if a, err := login(t.Context(), s, user, harness.Password(user)); err != nil || a.Status != wire.OK {
					t.Errorf("%s: %v %v", user, a, err)
				}
			})
		}
	}
	all.Wait()
	took := time.Since(began)
	after := resident(t, s.PID())
	t.Logf("%d first logins, each twice, at once: %v; memory %d MiB, before %d MiB", users, took, after>>10, before>>10)
	// What runs at a time, and the rest of the daemon.
	if limit := before + derivations*memoryKiB + 128<<10; after > limit {
		t.Errorf("%d KiB resident, at most %d KiB wanted", after, limit)
	}
	for i := range users {
		if user := fmt.Sprintf("user%d", i); !isUnlocked(t, s, user) {
			t.Errorf("%s is locked", user)
		}
	}
}

// needle is a secret to look for.
type needle struct {
	what  string
	bytes []byte
}

// secretsOf opens a user's key record as the daemon does, and returns what the daemon must forget.
func secretsOf(t *testing.T, s *harness.Site, user string, password []byte) []needle {
	t.Helper()
	u := account.User(user)
	keys, err := siteKeys.Load(s.Secret)
	must(t, err)
	defer keys.Wipe()
	dir, err := records.Open(s.Store, keys.RecordMAC)
	must(t, err)
	defer dir.Close()
	rec, err := dir.Read(u)
	must(t, err)
	salt, err := keys.ArgonSalt(rec.Salt[:])
	must(t, err)
	sl := rec.Slots[0]
	hash, err := slot.Hash(password, slot.Salt(salt), sl.Params)
	must(t, err)
	seed, err := slot.PasswordSeed(hash, sl.ID)
	must(t, err)
	at := slot.Place{User: u, Kind: sl.Kind, Slot: sl.ID}
	identity, err := slot.Unwrap(sl.Wrapped, seed, sl.Public, at, rec.Public[:])
	must(t, err)
	defer identity.Wipe()
	all := []needle{{"password", password}}
	must(t, identity.Use(func(b []byte) error {
		all = append(all, needle{"identity key", bytes.Clone(b)})
		return nil
	}))
	copyOf := func(what string, k *secret.Key) {
		must(t, k.Use(func(b []byte) error {
			all = append(all, needle{what, bytes.Clone(b)})
			return nil
		}))
	}
	copyOf("hash of the password", hash)
	copyOf("slot key", seed)
	for _, ck := range rec.ContentKeys {
		k, err := identity.Open(u, ck.ID, ck.Sealed)
		must(t, err)
		copyOf("content key", k)
	}
	return all
}

// inMemory searches all memory of a process and tells how often each needle is there.
func inMemory(t testing.TB, pid int, needles []needle) map[string]int {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	defer func() { _ = maps.Close() }()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer func() { _ = mem.Close() }()
	found, total := map[string]int{}, 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if !strings.HasPrefix(fields[1], "r") || strings.HasPrefix(fields[len(fields)-1], "[v") {
			continue // not readable, or the kernel's own pages
		}
		var from, to int64
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		const piece, overlap = 8 << 20, 4096
		buf := make([]byte, min(piece, to-from))
		for at := from; at < to; at += max(int64(len(buf))-overlap, 1) {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at) // guard pages cannot be read
			total += n
			for _, x := range needles {
				found[x.what] += bytes.Count(buf[:n], x.bytes)
			}
			if at+int64(n) >= to || n == 0 {
				break
			}
		}
	}
	if total < 10<<20 {
		t.Fatalf("only %d bytes of memory could be read", total)
	}
	return found
}

// TestMemoryAfterLock looks for the keys of a user in the daemon's memory: they are there while the user is unlocked, and
// nowhere afterwards.
func TestMemoryAfterLock(t *testing.T) {
	shipped(t)
	s := newSite(t, fmt.Sprintf("grace = %q\nenroll = \"auto\"\nrecovery = \"none\"\n", grace))
	const user = "alice" // enrolled by the first login
	password := []byte("a password that is nowhere else 8305719")
	for range 3 { // enrolled and unlocked, then unlocked twice
		if a, err := login(t.Context(), s, user, bytes.Clone(password)); err != nil || a.Status != wire.OK {
			t.Fatalf("%v %v", a, err)
		}
		path := deliver(t, s, user, fmt.Sprint(time.Now().UnixNano()), "one")
		_, err := os.ReadFile(path)
		must(t, err)
		needles := secretsOf(t, s, user, bytes.Clone(password))
		found := inMemory(t, s.PID(), needles)
		t.Logf("unlocked: %v", found)
		if found["content key"] == 0 || found["identity key"] == 0 {
			t.Errorf("the scan does not even find keys that are in use: %v", found)
		}
		s.Lock(t, user)
		found = inMemory(t, s.PID(), needles)
		t.Logf("locked: %v", found)
		if found["content key"]+found["identity key"] > 0 {
			t.Errorf("keys are in the memory of the daemon after the lock: %v", found)
		}
		// What leads to the keys, as soon as the collector has run.
		harness.Eventually(t, 10*time.Second, "everything that leads to the keys is erased", func() bool {
			found = inMemory(t, s.PID(), needles)
			for _, n := range found {
				if n > 0 {
					return false
				}
			}
			return true
		})
	}
}
