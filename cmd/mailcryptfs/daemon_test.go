package main

import (
	"context"
	"errors"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

// TestWaitForEnd ends a daemon whose parts have noticed before anybody waits: which of both is heard of first is chance.
func TestWaitForEnd(t *testing.T) {
	t.Parallel()
	gone := ui.Failf(ui.ExitOSErr, "", "the view has gone")
	broken := errors.New("broken")
	for _, tt := range []struct{ cause, part, want error }{
		{nil, nil, nil},
		{nil, context.Canceled, nil},
		{nil, broken, broken},
		{gone, nil, gone},
		{gone, context.Canceled, gone},
	} {
		for range 100 {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(tt.cause)
			ended := make(chan error, 1)
			ended <- tt.part
			parts, err := waitForEnd(ctx, ended)
			if parts == 0 && errors.Is(tt.want, broken) {
				continue // it will be heard of later
			}
			if !errors.Is(err, tt.want) || errors.Is(err, context.Canceled) {
				t.Errorf("after %v, with a part that said %v: %v", tt.cause, tt.part, err)
			}
		}
	}
	ended := make(chan error, 1)
	ended <- nil
	if _, err := waitForEnd(t.Context(), ended); err == nil {
		t.Error("a part that ends on its own is no failure")
	}
}
