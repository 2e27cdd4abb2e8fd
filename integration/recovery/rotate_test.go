package recovery

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// keyIDs returns the content keys that a user's key records name, previous versions and delivery keys included. A record
// that vanishes meanwhile may have got another name: it reads all of them until none does.
func keyIDs(t *testing.T, s *harness.Site, user string) []string {
	t.Helper()
	dir := filepath.Join(s.Store, ".mailcryptfs/users", user)
	var ids []string
	harness.Eventually(t, time.Minute, "key records of which none vanishes", func() bool {
		_, err := os.Lstat(dir)
		must(t, err)
		ids, err = keyIDsOnce(dir)
		if !errors.Is(err, os.ErrNotExist) {
			must(t, err)
		}
		return err == nil
	})
	slices.Sort(ids)
	return slices.Compact(ids)
}

var recordID = regexp.MustCompile(`(?m)^id = "([0-9a-f]{32})"`)

func keyIDsOnce(dir string) (ids []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range recordID.FindAllSubmatch(text, -1) {
			ids = append(ids, string(m[1]))
		}
		return err
	})
	return ids, err
}

// sealedUnder returns the content-key ids in the headers of all files of the store (FORMAT.md C3).
func sealedUnder(t *testing.T, s *harness.Site) []string {
	t.Helper()
	var ids []string
	must(t, filepath.WalkDir(s.Store, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // the converter renames beside us
		}
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if len(b) > 24 && bytes.HasPrefix(b, []byte("mcfs")) {
			ids = append(ids, hex.EncodeToString(b[8:24]))
		}
		return err
	}))
	slices.Sort(ids)
	return slices.Compact(ids)
}

// rotating tells whether status knows of a rotation.
func rotating(t *testing.T, s *harness.Site, user string) bool {
	t.Helper()
	recovery, ok := s.Status(t, "--user", user)["recovery"].(map[string]any)
	if !ok {
		t.Fatal("status does not tell what opens the mail")
	}
	return recovery["rotation"] != nil
}

// none fails the test if the two lists have something in common.
func none(t *testing.T, what string, old, now []string) {
	t.Helper()
	for _, id := range old {
		if slices.Contains(now, id) {
			t.Errorf("%s: the old key %s is still there", what, id)
		}
	}
}

func TestRotate(t *testing.T) {
	for _, identity := range []bool{false, true} {
		t.Run(fmt.Sprintf("identity=%v", identity), func(t *testing.T) {
			s := harness.Start(t, harness.Options{})
			s.Enroll(t, alice)
			sheet, key := code(t, s, alice), recoveryKey(t, s)
			unlocks(t, s, alice, password(alice))
			b := newBox(t, s, alice)
			b.deliver(t, "new", 3000) // under a delivery key
			good(t, s, secrets{"password": password(alice)}, "unlock", alice)
			b.deliver(t, ".Archive/cur", 20000)
			old := keyIDs(t, s, alice)
			args := []string{"rotate", "--wait", alice}
			if identity {
				args = append(args, "--identity")
			}
			if out := good(t, s, nil, args...); !strings.Contains(out, "the old keys are destroyed") {
				t.Errorf("rotate: %s", out)
			}
			if rotating(t, s, alice) {
				t.Error("the rotation has not ended")
			}
			b.readable(t, s)
			now := keyIDs(t, s, alice)
			none(t, "key records", old, now)
			none(t, "stored files", old, sealedUnder(t, s))
			if len(now) != 1 {
				t.Errorf("keys %q", now)
			}
			// Every secret still opens, without having been typed.
			good(t, s, nil, "lock", alice)
			good(t, s, secrets{"code": sheet, "new": "by code"}, "passwd", alice)
			good(t, s, secrets{"new": "by key"}, "passwd", alice, "--recovery-key", key)
			good(t, s, secrets{"password": "by key"}, "unlock", alice)
			b.readable(t, s)
		})
	}
}

// TestRotateLocked: the content key is another one at once, the rest waits for the next login.
func TestRotateLocked(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		old := keyIDs(t, s, alice)
		without(t, s, up, func() {
			if out := good(t, s, nil, "rotate", "--all", "--identity"); !strings.Contains(out, "new keys since") {
				t.Error(out)
			}
		})
		if !rotating(t, s, alice) {
			t.Error("status does not tell of the rotation")
		}
		b.deliver(t, "new", 4000)
		good(t, s, secrets{"password": password(alice)}, "unlock", alice)
		harness.Eventually(t, time.Minute, "the end of the rotation", func() bool { return !rotating(t, s, alice) })
		b.readable(t, s)
		none(t, "key records", old, keyIDs(t, s, alice))
		none(t, "stored files", old, sealedUnder(t, s))
	})
}

// TestRotateKilled kills the daemon fifty times at random while it rotates, with other rotations asked for in between. No
// message is ever lost, and at the end no old key is left.
func TestRotateKilled(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	b := newBox(t, s, alice)
	good(t, s, secrets{"password": password(alice)}, "unlock", alice)
	for range 12 {
		b.deliver(t, []string{"new", "cur", ".Archive/cur"}[rand.IntN(3)], 1+rand.IntN(12000))
	}
	var old []string
	s.Announce("user cannot be served as usual|cannot convert|is not complete|audit log")
	for round := range 50 {
		old = append(old, keyIDs(t, s, alice)...)
		args := []string{"rotate", alice}
		if rand.IntN(2) == 0 {
			args = append(args, "--identity")
		}
		// Killed while the verb waits for its answer, or while the converter works.
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			<-time.After(time.Duration(rand.IntN(100_000)) * time.Microsecond)
			s.Kill(t)
		}()
		r := call(t, s, nil, args...)
		// Rounds are shorter than passes: after some of them enough old keys wait, and more are refused.
		if r.Code != 0 && r.Code != unavailable && r.Code != tempFail {
			t.Errorf("round %d: rotate: exit %d: %s", round, r.Code, r.Err)
		}
		<-killed
		s.Serve(t)
		if round%10 == 9 {
			b.readable(t, s)
			b.deliver(t, "new", 1+rand.IntN(8000))
		}
	}
	harness.Eventually(t, time.Minute, "the end of the rotations", func() bool { return !rotating(t, s, alice) })
	good(t, s, nil, "rotate", "--identity", "--wait", alice)
	harness.Eventually(t, time.Minute, "the end of the rotation", func() bool { return !rotating(t, s, alice) })
	b.readable(t, s)
	now := keyIDs(t, s, alice)
	none(t, "key records", old, now)
	none(t, "stored files", old, sealedUnder(t, s))
	if len(now) != 1 {
		t.Errorf("keys %q", now)
	}
	good(t, s, nil, "lock", alice)
	good(t, s, secrets{"password": password(alice)}, "unlock", alice)
	b.readable(t, s)
	if r := call(t, s, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: exit %d: %s%s", r.Code, r.Out, r.Err)
	}
}

func TestForget(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		s.Enroll(t, "bob")
		bobs := newBox(t, s, "bob")
		bobs.deliver(t, "new", 3000)
		sheet := code(t, s, alice)
		if up {
			good(t, s, secrets{"password": password(alice)}, "unlock", alice)
		}
		old := keyIDs(t, s, alice)
		without(t, s, up, func() {
			bad(t, s, usage, "another name", nil, "forget", alice, "--confirm", "Alice")
			bad(t, s, noUser, "not enrolled", nil, "forget", "carol", "--confirm", "carol")
			var record struct {
				User  string
				Slots int
				By    string
				Keys  int `json:"content_keys"`
			}
			out := good(t, s, nil, "forget", alice, "--confirm", alice, "--json")
			if err := json.Unmarshal([]byte(out), &record); err != nil || record.User != alice || record.Slots != 2 || record.Keys != 1 {
				t.Errorf("%v: %s", err, out)
			}
			bad(t, s, noUser, "not enrolled", nil, "forget", alice, "--confirm", alice)
		})
		// Not EACCES, which says that somebody could unlock it.
		s.Announce("user forgotten|stored file cannot be read.*user is not enrolled")
		b.fails(t, unix.EIO)
		none(t, "key records", old, keyIDs(t, s, alice))
		bad(t, s, noUser, "", secrets{"password": password(alice)}, "unlock", alice)
		bad(t, s, noUser, "", secrets{"code": sheet, "new": "x"}, "passwd", alice)
		good(t, s, secrets{"password": password("bob")}, "unlock", "bob")
		bobs.readable(t, s)
	})
}
