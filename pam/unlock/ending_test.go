package unlock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// TestEndCutsShort has the daemon end, as by a signal, while a request waits for its turn.
func TestEndCutsShort(t *testing.T) {
	s := &server{options: Options{Wait: time.Hour}, turns: make(chan struct{})}
	signal := errors.New("terminated signal received")
	ctx, cancel := context.WithCancelCause(t.Context())
	if cutShort(ctx, context.Canceled) || cutShort(ctx, nil) {
		t.Error("cut short before the end")
	}
	cancel(signal)
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{s.inTurn(ctx, login("alice", "pw")), true},
		{fmt.Errorf("while waiting: %w", signal), true},
		{ErrWrongSecret, false}, {secret.ErrNotEnrolled, false}, {ErrBusy, false}, {nil, false},
	} {
		if cutShort(ctx, tt.err) != tt.want {
			t.Errorf("%v: cut short %v", tt.err, !tt.want)
		}
	}
}

// TestEndIsNoTrouble: neither the log nor the answer call a request that was cut short a failure; any other keeps its own.
func TestEndIsNoTrouble(t *testing.T) {
	for _, tt := range []struct {
		err   error
		want  wire.Status
		level string
	}{
		{fmt.Errorf("%w: while waiting to derive a key: %w", errEnding, context.Canceled), wire.Busy, "INFO"},
		{ErrBusy, wire.Busy, "WARN"},
		{context.Canceled, wire.Failed, "ERROR"},
	} {
		var log bytes.Buffer
		got := statusOf(tt.err)
		report(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), login("alice", "pw"), got, tt.err)
		if got != tt.want || !strings.Contains(log.String(), "level="+tt.level) {
			t.Errorf("%v: %v, %s", tt.err, got, log.String())
		}
	}
}
