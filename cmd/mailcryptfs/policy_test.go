package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
)

// recipients makes recovery keys and forgets their private halves.
func recipients(t *testing.T, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range all {
		r, err := recovery.Generate(&strings.Builder{}, i%2 == 0)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = r.String()
	}
	return all
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	keys := recipients(t, 1)
	for _, tt := range []struct {
		mode string
		keys []string
		want error
	}{
		{"none", nil, nil}, {"optional", nil, nil}, {"optional", keys, nil}, {"required", keys, nil}, {"required", nil, errRecoveryRequired},
	} {
		p, err := recoveryPolicyOf("f", config.Config{Recovery: tt.mode, Recipients: tt.keys})
		if err != nil {
			t.Fatal(err)
		}
		if err := newPolicy(p).mayEnroll(); !errors.Is(err, tt.want) {
			t.Errorf("%s with %d keys: %v", tt.mode, len(tt.keys), err)
		}
	}
	_, err := recoveryPolicyOf("/etc/f", config.Config{Recovery: "required", Recipients: []string{"age1qqqqqqqqqq"}})
	if ui.ExitCode(err) != ui.ExitConfig || !strings.Contains(err.Error(), "/etc/f: recovery_recipients: age1qqq") {
		t.Errorf("%v", err)
	}
}

// reloading is a reloader over a configuration file.
type reloading struct {
	*reloader
	path    string
	applied []int // numbers of recovery keys
	fail    error // of the escrow
	sealed  []int
}

func newReloading(t *testing.T) *reloading {
	t.Helper()
	r := &reloading{path: filepath.Join(t.TempDir(), "c.toml")}
	r.reloader = &reloader{
		path: r.path, started: config.Default(), policy: newPolicy(recoveryPolicy{mode: "none"}), log: slog.New(slog.DiscardHandler),
		apply: func(l []recovery.Recipient) { r.applied = append(r.applied, len(l)) },
		escrow: func(l []recovery.Recipient) error {
			r.sealed = append(r.sealed, len(l))
			return r.fail
		},
	}
	return r
}

func (r *reloading) write(t *testing.T, change func(*config.Config)) {
	t.Helper()
	c := config.Default()
	change(&c)
	if err := os.WriteFile(r.path, config.Render(c), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReloader(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	keys := recipients(t, 2)
	if _, err := r.reload(); !errors.Is(err, config.ErrMissing) {
		t.Errorf("without a file: %v", err)
	}
	r.write(t, func(c *config.Config) { c.Recovery, c.Recipients, c.Cluster = "required", keys, true })
	got, err := r.reload()
	if err != nil || got.Recovery != "required" || got.Recipients != 2 || !slices.Equal(got.Restart, []string{"cluster"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if len(r.policy.recipients()) != 2 || !slices.Equal(r.applied, []int{2}) || !slices.Equal(r.sealed, []int{2}) {
		t.Errorf("%d, %v, %v", len(r.policy.recipients()), r.applied, r.sealed)
	}
	// What cannot work changes nothing.
	r.write(t, func(c *config.Config) { c.Recovery, c.Recipients = "required", []string{"age1qqqq"} })
	if _, err := r.reload(); err == nil || len(r.policy.recipients()) != 2 || len(r.applied) != 1 {
		t.Errorf("%v, %v", err, r.applied)
	}
	// The escrow fails: the keys count all the same, and status tells.
	r.fail = errors.New("disk on fire")
	r.write(t, func(c *config.Config) { c.Recovery, c.Recipients = "optional", keys[:1] })
	if got, err := r.reload(); err != nil || got.Recipients != 1 || !strings.Contains(r.lastProblem(), "disk on fire") {
		t.Errorf("%+v, %v, %q", got, err, r.lastProblem())
	}
	// No recovery key any more: the old escrow is not touched.
	r.write(t, func(c *config.Config) { c.Recovery = "none" })
	if _, err := r.reload(); err != nil || r.lastProblem() != "" || !slices.Equal(r.sealed, []int{2, 1}) {
		t.Errorf("%v, %q, %v", err, r.lastProblem(), r.sealed)
	}
}
