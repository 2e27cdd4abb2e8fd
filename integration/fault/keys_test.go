package fault

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// keyOp is an operation on a user's keys, or one that needs a key record written. It is done for a new user each time, who
// has a mailbox.
type keyOp struct {
	name string
	prep func(*keyBench, *testing.T, string)
	do   func(*keyBench, string) error
	// done says what is wrong when it was done, with everything that the user can still have to do with it; "" if nothing.
	done func(*keyBench, string) string
}

// errExists is the end of a verb that had been done already.
var errExists = errors.New("it was done already")

// keyBench is a site whose key records can fail.
type keyBench struct {
	*bench
	passwords map[string][]byte // of users, as they have to be after a restart
	mails     map[string][]byte // the same of messages
	tries     int
}

// sample is of how many calls one fails in the short form, to begin with.
const sample = 6

// longForm says whether FAULTS=all asks for the long form.
func longForm() bool { return os.Getenv("FAULTS") == "all" }

const exEnrolled = 73

// verb runs a verb with passwords on its standard input, one each line.
func (b *keyBench) verb(password []byte, args ...string) error {
	r := b.call(password, args...)
	switch {
	case r.Code == 0:
		return nil
	case r.Code == exEnrolled && args[0] == "enroll":
		return errExists
	}
	return fmt.Errorf("exit %d: %s", r.Code, r.Err)
}

func (b *keyBench) call(password []byte, args ...string) harness.Result {
	return b.s.Call(b.t, password, args[0], args[1:]...)
}

func (b *keyBench) enroll(u string) error { return b.verb(harness.Password(u), "enroll", u) }
func (b *keyBench) unlock(u string) error { return b.verb(b.password(u), "unlock", u) }
func (b *keyBench) lock(u string) error   { return b.verb(nil, "lock", u) }

func (b *keyBench) password(u string) []byte {
	if p := b.passwords[u]; p != nil {
		return p
	}
	return harness.Password(u)
}

// box is the mailbox of a user.
func (b *keyBench) box(u string) string { return b.s.View + "/" + u }

// put delivers a message, and remembers it if that was acknowledged.
func (b *keyBench) put(u, name string, size int) error {
	b.tries++ // a file that could neither be made nor unmade must not be in the way
	tmp, final := fmt.Sprintf("%s/tmp/%s-%d", b.box(u), name, b.tries), b.box(u)+"/new/"+name
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text(size))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, final); err != nil {
		return err
	}
	b.mails[final] = text(size)
	return nil
}

// opens says why the user cannot be unlocked, with all their mail to be read; "" if they can.
func (b *keyBench) opens(u string) string {
	if err := b.lock(u); err != nil {
		return "lock: " + err.Error()
	}
	if err := b.put(u, "sealed", 5000); err != nil {
		return "a delivery: " + err.Error()
	}
	if err := b.unlock(u); err != nil {
		return "unlock: " + err.Error()
	}
	return b.readable(u)
}

func (b *keyBench) readable(u string) string {
	for path, want := range b.mails {
		if !strings.HasPrefix(path, b.box(u)+"/") {
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			return fmt.Sprintf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	return ""
}

func enrolled(b *keyBench, t *testing.T, u string) { must(t, b.enroll(u)) }

func unlocked(b *keyBench, t *testing.T, u string) {
	must(t, b.enroll(u))
	must(t, b.put(u, "first", 300))
	must(t, b.unlock(u))
}

// plain gives an unlocked user some plain files, which nobody converts without being asked to.
func plain(b *keyBench, t *testing.T, u string) {
	unlocked(b, t, u)
	must(t, b.put(u, "long"+long, 9000))
	must(t, b.verb(nil, "decrypt", u, "--wait"))
}

var keyOps = []keyOp{
	{name: "enroll", do: (*keyBench).enroll, done: (*keyBench).opens},
	{name: "first delivery", prep: enrolled, done: (*keyBench).opens,
		do: func(b *keyBench, u string) error { return b.put(u, "first", 5000) }},
	{name: "unlock", prep: func(b *keyBench, t *testing.T, u string) {
		unlocked(b, t, u)
		must(t, b.lock(u))
		must(t, b.put(u, "second", 5000))
	}, do: (*keyBench).unlock, done: (*keyBench).readable},
	{name: "lock", prep: unlocked, do: (*keyBench).lock, done: (*keyBench).opens},
	{name: "passwd", prep: unlocked, done: (*keyBench).opens, do: func(b *keyBench, u string) error {
		fresh := fmt.Appendf(nil, "another one of %s", u)
		if err := b.passwd(u, b.password(u), fresh); err != nil {
			if b.lock(u) == nil && b.verb(fresh, "unlock", u) == nil {
				b.passwords[u] = fresh // it was done, but it could not tell
				return errExists
			}
			return err
		}
		b.passwords[u] = fresh
		return nil
	}},
	{name: "encrypt", prep: plain, done: (*keyBench).readable,
		do: func(b *keyBench, u string) error { return b.verb(nil, "encrypt", u, "--wait") }},
	{name: "decrypt", prep: func(b *keyBench, t *testing.T, u string) {
		unlocked(b, t, u)
		must(t, b.put(u, "long"+long, 9000))
	}, done: (*keyBench).readable, do: func(b *keyBench, u string) error { return b.verb(nil, "decrypt", u, "--wait") }},
}

// passwd calls the verb, which takes its two passwords from descriptors.
func (b *keyBench) passwd(u string, old, fresh []byte) error {
	r := b.s.CallWith(b.t, [][]byte{old, fresh}, "passwd", u, "--old-fd", "3", "--new-fd", "4")
	if r.Code != 0 {
		return fmt.Errorf("exit %d: %s", r.Code, r.Err)
	}
	return nil
}

// TestKeyFaults is the whole of it for operations that read and write key records.
func TestKeyFaults(t *testing.T) {
	more := []string{"write"}
	if longForm() { // read(2) is also how the kernel's requests come
		more = append(more, "read", "flock")
	}
	b := &keyBench{bench: newBench(t, harness.Options{}, more...), passwords: map[string][]byte{}, mails: map[string][]byte{}}
	for _, o := range keyOps {
		t.Run(o.name, func(t *testing.T) {
			b.t = t
			total := 0
			for _, f := range keyFaults() {
				first, step := 1, 1
				if !longForm() {
					step = sample
					first += rand.IntN(step)
				}
				for n := first; b.keyOnce(t, o, f, n); n += step {
					total++
					if !longForm() {
						step++ // long operations do the same again and again
					}
				}
			}
			t.Logf("%d faults", total)
		})
	}
	b.t = t
	b.s.Kill(t)
	b.s.Serve(t)
	for user := range b.users {
		if b.call(nil, "status", "--user", user).Code != 0 {
			continue
		}
		if problem := b.opens(user); problem != "" {
			t.Errorf("after a restart: %s: %s", user, problem)
		}
	}
	b.verify(t)
}

func keyFaults() (all []fault) {
	names := []string{"EIO"}
	if longForm() {
		names = []string{"EIO", "EIO and on", "ENOSPC", "EDQUOT", "EMFILE", "EINTR", "half"}
	}
	for _, f := range faults {
		for _, name := range names {
			if f.name == name {
				all = append(all, f)
			}
		}
	}
	return all
}

// keyOnce lets call n of an operation fail; false if there was none.
func (b *keyBench) keyOnce(t *testing.T, o keyOp, f fault, n int) bool {
	t.Helper()
	b.count++
	u := fmt.Sprintf("user-%d", b.count)
	b.users[u] = true
	for _, d := range []string{"", "/cur", "/new", "/tmp"} {
		must(t, os.Mkdir(b.box(u)+d, 0o700))
	}
	if o.prep != nil {
		o.prep(b, t, u)
	}
	b.inject.arm(f, n)
	err := b.within(t, o.name, func() error { return o.do(b, u) })
	hit, _ := b.inject.disarm()
	if len(hit) == 0 {
		if err != nil {
			t.Errorf("%s: without a fault: %v", f.name, err)
		}
		return false
	}
	what := fmt.Sprintf("%s at call %d (%s)", f.name, n, hit[0])
	if err != nil && f.unseen {
		t.Errorf("%s: %v", what, err)
	}
	if problem := b.readableIfUnlocked(u); problem != "" {
		t.Errorf("%s: afterwards: %s", what, problem)
	}
	if err != nil && !errors.Is(err, errExists) {
		if err := b.within(t, what, func() error { return o.do(b, u) }); err != nil && !errors.Is(err, errExists) {
			t.Errorf("%s: tried again: %v", what, err)
			return true
		}
	}
	if problem := o.done(b, u); problem != "" {
		t.Errorf("%s (%v): done, but %s", what, err, problem)
	}
	return true
}

// readableIfUnlocked is readable for a user who may be locked.
func (b *keyBench) readableIfUnlocked(u string) string {
	for path := range b.mails {
		if !strings.HasPrefix(path, b.box(u)+"/") {
			continue
		}
		if err := unix.Access(path, unix.F_OK); err != nil {
			return path + ": " + err.Error()
		}
		f, err := os.Open(path)
		if errors.Is(err, unix.EACCES) {
			return ""
		}
		if err != nil {
			return err.Error()
		}
		_ = f.Close()
	}
	return b.readable(u)
}
