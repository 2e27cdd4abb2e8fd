package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// TestOfflineEntry keeps a user unlocked whose password is set without a daemon, and locks or unlocks nobody else.
func TestOfflineEntry(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	verbs := map[string]func(o *Offline, password string) error{
		"recover": func(o *Offline, password string) error {
			return o.Recover(ctx, alice, pw("pw"), []byte(password), "root")
		},
		"change": func(o *Offline, password string) error {
			return o.ChangePassword(ctx, alice, []byte("pw"), []byte(password), "root")
		},
	}
	for name, set := range verbs {
		for _, state := range []string{"unlocked", "by another slot", "locked", "stale"} {
			t.Run(name+" "+state, func(t *testing.T) {
				t.Parallel()
				f, r := newTestRing(t)
				_, err := r.AddPassword(ctx, alice, pw("pw"), []byte("phone"), "phone", "root")
				must(t, err)
				opener := map[string]string{"by another slot": "phone"}[state]
				if opener == "" {
					opener = "pw"
				}
				must(t, r.Unlock(ctx, alice, []byte(opener)))
				path := filepath.Join(f.Dir, alice.Escape())
				before, err := os.ReadFile(path)
				must(t, err)
				switch state {
				case "locked":
					must(t, r.Lock(alice))
				case "stale":
					before[len(before)/2] ^= 1
					must(t, os.WriteFile(path, before, 0o600))
				}
				r.Close()
				o, err := OpenOfflineOptions(f.Options)
				must(t, err)
				must(t, set(o, "new"))
				err = o.UnlockByEntry(alice)
				after, readErr := os.ReadFile(path)
				switch state {
				case "unlocked":
					if err != nil || string(after) == string(before) {
						t.Errorf("the entry is stale: %v", err)
					}
				case "locked":
					if !errors.Is(err, secret.ErrLocked) || !errors.Is(readErr, os.ErrNotExist) {
						t.Errorf("an entry appeared: %v, %v", err, readErr)
					}
				default:
					if (err == nil) != (state == "by another slot") || string(after) != string(before) {
						t.Errorf("the entry was changed: %v", err)
					}
				}
				o.Close()
				if got := f.open(t).Holds(alice); got != (state == "unlocked" || state == "by another slot") {
					t.Errorf("unlocked after a restart: %v", got)
				}
			})
		}
	}
}
