package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func sample() []byte { return bytes.Repeat([]byte{0xa7}, Size) }

func mustKey(tb testing.TB) *Key {
	tb.Helper()
	k, err := NewKey(sample())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Wipe)
	return k
}

func TestNewKeyCopiesAndWipes(t *testing.T) {
	b := sample()
	k, err := NewKey(b)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	if !bytes.Equal(b, make([]byte, Size)) {
		t.Error("the argument was not wiped")
	}
	err = k.Use(func(got []byte) error {
		if !bytes.Equal(got, sample()) {
			t.Errorf("got %x", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewKeyPanicsOnLength(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("31 bytes were taken")
		}
	}()
	_, _ = NewKey(make([]byte, Size-1))
}

func TestWipe(t *testing.T) {
	k := mustKey(t)
	c := k.cell
	k.Wipe()
	k.Wipe()
	if *c != (cell{}) {
		t.Error("the cell was not zeroed")
	}
	if !k.Wiped() {
		t.Error("Wiped is false")
	}
	if err := k.Use(func([]byte) error { t.Error("called"); return nil }); !errors.Is(err, ErrWiped) {
		t.Errorf("got %v", err)
	}
	if err := new(Key).Use(nil); !errors.Is(err, ErrWiped) {
		t.Errorf("zero value: got %v", err)
	}
}

func TestUseReturnsError(t *testing.T) {
	k := mustKey(t)
	want := errors.New("mine")
	if err := k.Use(func([]byte) error { return want }); err != want {
		t.Errorf("got %v", err)
	}
}

func TestUseReleasesAfterPanic(t *testing.T) {
	k := mustKey(t)
	func() {
		defer func() { _ = recover() }()
		_ = k.Use(func([]byte) error { panic("x") })
	}()
	k.Wipe() // would hang if the panic had kept the lock
}

func TestWipeWaitsForUse(t *testing.T) {
	k := mustKey(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				err := k.Use(func(b []byte) error {
					if !bytes.Equal(b, sample()) {
						t.Errorf("saw %x", b)
					}
					runtime.Gosched()
					return nil
				})
				if errors.Is(err, ErrWiped) {
					return
				}
			}
		})
	}
	for range 100 {
		runtime.Gosched()
	}
	k.Wipe()
	wg.Wait()
}

func TestKeysDoNotOverlap(t *testing.T) {
	const n = 3 * slabSize / Size
	keys := make([]*Key, n)
	for i := range keys {
		b := make([]byte, Size)
		b[0], b[1], b[31] = byte(i), byte(i>>8), 1
		var err error
		if keys[i], err = NewKey(b); err != nil {
			t.Fatal(err)
		}
	}
	for i, k := range keys {
		_ = k.Use(func(b []byte) error {
			if b[0] != byte(i) || b[1] != byte(i>>8) || b[31] != 1 || !bytes.Equal(b[2:31], make([]byte, 29)) {
				t.Errorf("key %d is %x", i, b)
			}
			return nil
		})
	}
	for _, k := range keys {
		k.Wipe()
	}
}

func TestCellsAreReused(t *testing.T) {
	var a allocator
	for range 10 * slabSize / Size {
		c, err := a.take()
		if err != nil {
			t.Fatal(err)
		}
		if *c != (cell{}) {
			t.Fatal("a cell was handed out with content")
		}
		c[0] = 1
		a.give(c)
	}
	if len(a.slabs) != 1 {
		t.Errorf("%d slabs for one cell at a time", len(a.slabs))
	}
	a.slabs[0].Destroy()
}

func TestNeverPrinted(t *testing.T) {
	k := mustKey(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k, "content", ContentKey{Key: k})
	j, err := json.Marshal(ContentKey{Key: k})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{log.String(), string(j)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		texts = append(texts, fmt.Sprintf(verb, k), fmt.Sprintf(verb, ContentKey{Key: k}), fmt.Sprintf(verb, &ContentKey{Key: k}))
	}
	for _, s := range texts {
		for _, leak := range []string{"a7a7", "A7A7", "167 167", "167,167", "\xa7\xa7", `\xa7`} {
			if strings.Contains(s, leak) {
				t.Errorf("leaks: %q", s)
			}
		}
	}
}

func TestID(t *testing.T) {
	id := RandomID()
	got, err := ParseID(id.String())
	if err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "00", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("0", 34), strings.Repeat("A", 32), strings.Repeat("g", 32)} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func TestRandomKeysDiffer(t *testing.T) {
	a, err := RandomKey()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Wipe()
	b, err := RandomKey()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	_ = a.Use(func(x []byte) error {
		return b.Use(func(y []byte) error {
			if bytes.Equal(x, y) || bytes.Equal(x, make([]byte, Size)) {
				t.Error("not random")
			}
			return nil
		})
	})
}

func TestDo(t *testing.T) {
	var called bool
	Do(func() { called = true })
	if !called {
		t.Error("not called")
	}
}

// TestHarden and TestLimit run in a child: they change limits for good.
func TestHarden(t *testing.T) {
	if os.Getenv("SECRET_TEST_CHILD") == "harden" {
		if err := Harden(); err != nil {
			t.Fatal(err)
		}
		d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil || d != 0 {
			t.Errorf("dumpable is %d, %v", d, err)
		}
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil || l.Cur != 0 || l.Max != 0 {
			t.Errorf("core limit is %v, %v", l, err)
		}
		return
	}
	child(t, "harden")
}

func TestLimit(t *testing.T) {
	if os.Getenv("SECRET_TEST_CHILD") == "limit" {
		first := mustKey(t)
		lockLimit(t, slabSize)
		var keys []*Key
		for {
			k, err := RandomKey()
			if err != nil {
				if !errors.Is(err, ErrMemory) {
					t.Errorf("got %v", err)
				}
				break
			}
			keys = append(keys, k)
			if len(keys) > slabSize/Size {
				t.Fatal("no limit was met")
			}
		}
		// Whoever has a key keeps it.
		if err := first.Use(func([]byte) error { return nil }); err != nil {
			t.Error(err)
		}
		keys[0].Wipe()
		if _, err := RandomKey(); err != nil {
			t.Errorf("a freed cell was not reused: %v", err)
		}
		return
	}
	child(t, "limit")
}

// lockLimit makes further locking fail, for root also.
func lockLimit(t *testing.T, limit uint64) {
	t.Helper()
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // capabilities belong to threads
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_IPC_LOCK
	data[0].Permitted &^= 1 << unix.CAP_IPC_LOCK
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
}

func child(t *testing.T, name string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "SECRET_TEST_CHILD="+name)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func BenchmarkUse(b *testing.B) {
	k := mustKey(b)
	b.ReportAllocs()
	var sum byte
	for b.Loop() {
		_ = k.Use(func(b []byte) error { sum += b[0]; return nil })
	}
}

func BenchmarkUseParallel(b *testing.B) {
	k := mustKey(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var sum byte
		for pb.Next() {
			_ = k.Use(func(b []byte) error { sum += b[0]; return nil })
		}
	})
}

func BenchmarkNewKey(b *testing.B) {
	for b.Loop() {
		k, err := RandomKey()
		if err != nil {
			b.Fatal(err)
		}
		k.Wipe()
	}
}
