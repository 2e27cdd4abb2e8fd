package recovery

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestSelfHealing: the password was reset behind our back. The user stays locked, mail keeps arriving, and each of the
// ways back mends it, with nothing lost.
func TestSelfHealing(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		sheet, key := code(t, s, alice), recoveryKey(t, s)
		unlocks(t, s, alice, password(alice)) // and gets the slot of the new recovery key
		for round, way := range []struct {
			name string
			in   secrets
			args []string
		}{
			{"old password", secrets{"old": password(alice)}, nil},
			{"recovery code", secrets{"code": strings.ToLower(strings.ReplaceAll(sheet, "-", " "))}, nil},
			{"recovery key", nil, []string{"--recovery-key", key}},
		} {
			fresh := "reset " + way.name
			refused(t, s, alice, fresh)
			b.locked(t)
			b.deliver(t, "new", 3000+round)
			without(t, s, up, func() {
				in := secrets{"new": fresh}
				for k, v := range way.in {
					in[k] = v
				}
				good(t, s, in, append([]string{"passwd", alice}, way.args...)...)
			})
			good(t, s, secrets{"password": fresh}, "unlock", alice)
			b.readable(t, s)
			good(t, s, nil, "lock", alice)
			b.locked(t)
		}
		refused(t, s, alice, password(alice))
	})
}

// TestSessionGoesOn: a password change disturbs nobody who reads.
func TestSessionGoesOn(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		if !up {
			return // without a daemon there are no sessions; the next test has a change beside one
		}
		good(t, s, secrets{"password": password(alice)}, "unlock", alice)
		sheet := code(t, s, alice)
		f := b.open(t)
		for _, in := range []secrets{{"old": password(alice), "new": "two"}, {"code": sheet, "new": "three"}} {
			good(t, s, in, "passwd", alice)
			if _, err := io.Copy(io.Discard, f); err != nil {
				t.Errorf("an open message: %v", err)
			}
			_, err := f.Seek(0, io.SeekStart)
			must(t, err)
			b.readable(t, s)
			b.deliver(t, "new", 2000)
		}
		// A restart of the daemon locks nobody, although the password is another one by now.
		must(t, f.Close())
		s.Stop(t)
		s.Serve(t)
		b.readable(t, s)
		good(t, s, nil, "lock", alice)
		refused(t, s, alice, "two")
		unlocks(t, s, alice, "three")
	})
}

// open opens one of the messages.
func (b *box) open(t *testing.T) *os.File {
	t.Helper()
	for path := range b.mail {
		f, err := os.Open(filepath.Join(b.site.View, b.user, path))
		must(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	t.Fatal("no mail")
	return nil
}

func TestPasswdRefuses(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		sheet := code(t, s, alice)
		other := filepath.Join(harness.Dir(t), "other.key")
		s.Enroll(t, "bob")
		foreign := code(t, s, "bob")
		without(t, s, up, func() {
			// A recovery key of nobody here.
			third := harness.New(t, harness.Options{})
			good(t, third, nil, "setup", "--recovery", other)
			mistyped := []byte(sheet)
			mistyped[3] ^= 1
			for name, tt := range map[string]struct {
				code int
				says string
				in   secrets
				args []string
			}{
				"wrong password":         {noPerm, "wrong password", secrets{"old": "x", "new": "y"}, nil},
				"code of another user":   {noPerm, "wrong password or recovery code", secrets{"code": foreign, "new": "y"}, nil},
				"mistyped code":          {noPerm, "group 1", secrets{"code": string(mistyped), "new": "y"}, nil},
				"half a code":            {noPerm, "characters", secrets{"code": sheet[:20], "new": "y"}, nil},
				"key of somebody else":   {noPerm, "recovery key", secrets{"new": "y"}, []string{"--recovery-key", other}},
				"no key at all":          {noPerm, "AGE-SECRET-KEY", secrets{"new": "y"}, []string{"--recovery-key", s.Config}},
				"file that is missing":   {noInput, "no such file", secrets{"new": "y"}, []string{"--recovery-key", other + "x"}},
				"two secrets":            {usage, "exclude each other", secrets{"new": "y", "code": sheet, "old": "x"}, nil},
				"empty new password":     {usage, "empty", secrets{"old": password(alice), "new": ""}, nil},
				"descriptor and --stdin": {usage, "excludes", secrets{"old": "x", "new": "y"}, []string{"--stdin"}},
			} {
				t.Run(name, func(t *testing.T) {
					bad(t, s, tt.code, tt.says, tt.in, append([]string{"passwd", alice}, tt.args...)...)
				})
			}
			bad(t, s, noUser, "not enrolled", secrets{"old": "x", "new": "y"}, "passwd", "carol")
		})
		unlocks(t, s, alice, password(alice))
	})
}
