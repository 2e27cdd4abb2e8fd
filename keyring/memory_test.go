package keyring

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const memoryChild = "KEYRING_TEST_MEMORY"

// TestMemory scans the memory of a child that unlocks and locks a user. Seed and content key must be there while the
// user is unlocked, which proves the scan, and must be gone after the lock; a planted marker is found all the time.
func TestMemory(t *testing.T) {
	if dirs := os.Getenv(memoryChild); dirs != "" {
		runMemoryChild(t, dirs)
		return
	}
	t.Parallel()
	f, r := newTestRing(t)
	needles := map[string][]byte{"identity seed": seedOf(t, f, r), "marker": marker()}
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	ck, err := r.SealingKey(alice)
	must(t, err)
	needles["content key"] = keyBytes(t, ck.Key)
	must(t, r.Lock(alice))

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemory$")
	// A preemption in the middle of a copy of a key saves registers that hold parts of it (the limits of wiping).
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", memoryChild+"="+f.Store+"\n"+f.Dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for _, phase := range []string{"unlocked", "locked"} {
		for lines.Scan() && lines.Text() != phase {
		}
		found := scanMemory(t, cmd.Process.Pid, needles)
		for name := range needles {
			if want := phase == "unlocked" || name == "marker"; (found[name] > 0) != want {
				t.Errorf("%s: %s found %d times", phase, name, found[name])
			}
		}
		_, err := io.WriteString(in, "\n")
		must(t, err)
	}
	_, _ = io.Copy(io.Discard, out)
	must(t, cmd.Wait())
}

func runMemoryChild(t *testing.T, dirs string) {
	store, dir, _ := strings.Cut(dirs, "\n")
	f := newFixture(t)
	f.Store, f.Dir = store, dir
	r := f.open(t)
	planted := marker()
	in := bufio.NewReader(os.Stdin)
	must(t, r.Unlock(context.Background(), alice, []byte("pw")))
	_, err := r.SealingKey(alice)
	must(t, err)
	fmt.Println("unlocked")
	_, _ = in.ReadString('\n')
	must(t, r.Lock(alice))
	fmt.Println("locked")
	_, _ = in.ReadString('\n')
	runtime.KeepAlive(planted)
}

// marker is made by parent and child each for itself.
func marker() []byte {
	sum := sha256.Sum256([]byte("planted"))
	return bytes.Clone(sum[:])
}

// seedOf opens alice's slot by hand.
func seedOf(t *testing.T, f *fixture, r *Ring) []byte {
	t.Helper()
	m, err := r.member(alice)
	must(t, err)
	rec := m.record()
	e, err := findEntry(t.Context(), r.derive, rec, f.Site, []byte("pw"))
	must(t, err)
	defer e.Hash.Wipe()
	identity, _, err := openEntry(rec, f.Site, e)
	must(t, err)
	defer identity.Wipe()
	var seed []byte
	must(t, identity.Use(func(b []byte) error { seed = bytes.Clone(b); return nil }))
	return seed
}

// scanMemory counts the needles in the memory of a process.
func scanMemory(t *testing.T, pid int, needles map[string][]byte) map[string]int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer mem.Close()
	found := make(map[string]int)
	buf := make([]byte, 1<<20)
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil || !strings.Contains(line, " rw") {
			continue
		}
		// Chunks overlap by what a needle may straddle.
		for at := from; at < to; at += int64(len(buf)) - secret.Size {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			for name, needle := range needles {
				found[name] += bytes.Count(buf[:n], needle)
			}
		}
	}
	return found
}

// TestKeysCame tells the owner of the ring of every opening of an identity, whose copies may wait for the collector.
func TestKeysCame(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newFixture(t)
	came := 0
	f.KeysCame = func() { came++ }
	r := f.open(t)
	must(t, r.Enroll(ctx, alice, []byte("pw"), "test"))
	for range 2 {
		came = 0
		must(t, r.Unlock(ctx, alice, []byte("pw")))
		if came != 1 {
			t.Errorf("told %d times", came)
		}
		must(t, r.Lock(alice))
	}
	if err := r.Unlock(ctx, alice, []byte("wrong")); err == nil || came != 1 {
		t.Errorf("a wrong password: %v, told %d times", err, came)
	}
}
