package keyring

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// TestUpgradeOvertaken has something happen between the login and the derivation with the new parameters. Nothing of it is
// worth a warning, but that the record cannot be written is.
func TestUpgradeOvertaken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		meanwhile func(t *testing.T, f *fixture, r *Ring, cancel func())
		level     string
	}{
		"the daemon ends": {func(_ *testing.T, _ *fixture, r *Ring, cancel func()) {
			for range cap(r.derive) {
				r.derive <- struct{}{}
			}
			cancel()
		}, "INFO"},
		"another password": {func(t *testing.T, _ *fixture, r *Ring, _ func()) {
			must(t, r.ChangePassword(t.Context(), alice, []byte("pw"), []byte("new"), "test"))
		}, "INFO"},
		"forgotten": {func(t *testing.T, _ *fixture, r *Ring, _ func()) {
			_, err := r.Forget(t.Context(), alice, "test")
			must(t, err)
		}, "INFO"},
		"a damaged record": {func(t *testing.T, f *fixture, _ *Ring, _ func()) {
			for _, name := range []string{"record.toml", "record.prev.toml"} {
				if err := os.WriteFile(recordPath(f, alice, name), []byte("x"), 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
		}, "WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, r := newTestRing(t)
			m, err := r.member(alice)
			must(t, err)
			before, err := findEntry(t.Context(), r.derive, m.record(), f.Site, []byte("pw"))
			must(t, err)
			defer before.Hash.Wipe()
			r.o.Params = slot.Params{MemoryKiB: cheap.MemoryKiB, Time: cheap.Time + 1, Threads: cheap.Threads}
			r.params = r.o.Params
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tt.meanwhile(t, f, r, cancel)
			r.upgrade(ctx, m, before, []byte("pw"), digest{})
			for line := range strings.Lines(f.log.String()) {
				if strings.Contains(line, "keeps its old parameters") {
					if !strings.Contains(line, "level="+tt.level) {
						t.Error(line)
					}
					return
				}
			}
			t.Errorf("nothing is said: %s", f.log)
		})
	}
}
