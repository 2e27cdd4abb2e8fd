package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
)

// reloader takes over what of the configuration can change while the daemon runs: the recovery keys. Safe for concurrent
// use.
type reloader struct {
	path    string
	started config.Config // what the daemon runs with
	policy  *policy
	apply   func([]recovery.Recipient)       // tells the ring
	escrow  func([]recovery.Recipient) error // gives the site secret to them
	log     *slog.Logger

	mu      sync.Mutex
	problem string // of the last escrow; guarded by mu
}

// reload reads the configuration again. If it cannot be used, everything stays as it is.
func (r *reloader) reload() (control.Reloaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := config.Load(r.path)
	if err != nil {
		return control.Reloaded{}, err
	}
	p, err := recoveryPolicyOf(r.path, c)
	if err != nil {
		return control.Reloaded{}, err
	}
	r.policy.now.Store(&p)
	r.apply(p.recipients)
	r.escrowLocked(p.recipients)
	answer := control.Reloaded{Recovery: p.mode, Recipients: len(p.recipients), Problem: r.problem}
	for _, key := range config.Differences(r.started, c) {
		if !slices.Contains([]string{"recovery", "recovery_recipients"}, key) {
			answer.Restart = append(answer.Restart, key)
		}
	}
	return answer, nil
}

// escrowLocked gives the site secret to the recovery keys; a failure is for status to tell. The caller holds mu.
func (r *reloader) escrowLocked(to []recovery.Recipient) {
	r.problem = ""
	if len(to) == 0 {
		return // what was escrowed before stays: an empty list is more often a mistake than a wish
	}
	if err := r.escrow(to); err != nil {
		r.problem = "the site secret is not escrowed to the recovery keys: " + err.Error()
		r.log.Error("cannot escrow the site secret to the recovery keys", "err", err)
	}
}

// begin escrows the site secret when the daemon starts.
func (r *reloader) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.escrowLocked(r.policy.recipients())
}

func (r *reloader) lastProblem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// onSignal reloads at each SIGHUP until ctx ends.
func (r *reloader) onSignal(ctx context.Context, hangups <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
		}
		answer, err := r.reload()
		if err != nil {
			r.log.Error("the configuration was not reloaded: it cannot work", "err", err)
			continue
		}
		r.log.Info("reloaded", "recovery", answer.Recovery, "recovery_keys", answer.Recipients)
		if len(answer.Restart) > 0 {
			r.log.Warn("these settings need a restart of the daemon", "keys", answer.Restart)
		}
	}
}
