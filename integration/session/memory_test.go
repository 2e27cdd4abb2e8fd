package session

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/memory"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// login sends what the PAM module sends after a password was accepted.
func login(ctx context.Context, s *harness.Site, user string, password []byte) (wire.Answer, error) {
	return wire.Ask(ctx, filepath.Join(filepath.Dir(s.Control), "pam.sock"),
		wire.Request{Kind: wire.Login, User: user, Service: "imap", Password: password})
}

// TestManyFirstLogins lets 30 users log in for the first time at once, each of them twice, with the default cost.
func TestManyFirstLogins(t *testing.T) {
	const users, memoryKiB, derivations = 30, 64 << 10, 3
	harness.AsShipped(t)
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir"})
	text, err := os.ReadFile(s.Config)
	must(t, err)
	lines := strings.ReplaceAll(string(text), "kdf_memory_kib = 19456\n", fmt.Sprintf("kdf_memory_kib = %d\nmax_derivations = %d\nenroll = \"auto\"\nrecovery = \"none\"\n", memoryKiB, derivations))
	must(t, os.WriteFile(s.Config, []byte(lines), 0o600))
	s.Serve(t)
	before := harness.ProcStatus(t, s.PID(), "VmHWM")
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
	after := harness.ProcStatus(t, s.PID(), "VmHWM")
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

// TestMemoryAfterLock looks for the keys of a user in the daemon's memory: they are there while the user is unlocked, and
// nowhere afterwards.
func TestMemoryAfterLock(t *testing.T) {
	harness.AsShipped(t)
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
		secrets := memory.SecretsOf(t, s, user, password)
		found := memory.Find(t, s.PID(), secrets)
		t.Logf("unlocked: %v", found)
		if found["content key"] == (memory.Hits{}) || found["identity key"] == (memory.Hits{}) {
			t.Errorf("the scan does not even find keys that are in use: %v", found)
		}
		s.Lock(t, user)
		found = memory.Find(t, s.PID(), secrets)
		t.Logf("locked: %v", found)
		if found["content key"] != (memory.Hits{}) || found["identity key"] != (memory.Hits{}) {
			t.Errorf("keys are in the memory of the daemon after the lock: %v", found)
		}
		// What leads to the keys, as soon as the collector has run.
		harness.Eventually(t, time.Minute, "everything that leads to the keys is erased", func() bool {
			for _, n := range memory.Find(t, s.PID(), secrets) {
				if n != (memory.Hits{}) {
					return false
				}
			}
			return true
		})
	}
}
