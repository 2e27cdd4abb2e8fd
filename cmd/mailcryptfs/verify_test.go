package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs/check"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
)

func TestVerifyExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code int
	}{
		{context.Canceled, ui.ExitTempFail},
		{fmt.Errorf("/srv: %w", check.ErrForeign), ui.ExitConfig},
		{fmt.Errorf("/srv: %w", check.ErrNotFound), ui.ExitNoInput},
		{fmt.Errorf("/srv: %w", check.ErrOutside), ui.ExitUsage},
		{errors.New("disk on fire"), ui.ExitIOErr},
	} {
		if got := ui.ExitCode(verifyProblem(tt.err)); got != tt.code {
			t.Errorf("%v: exit %d, want %d", tt.err, got, tt.code)
		}
	}
}

// TestFrozenKeysNameTheStore has errors about a frozen store speak of the store itself and keep their kind.
func TestFrozenKeysNameTheStore(t *testing.T) {
	t.Parallel()
	k := &frozenKeys{frozen: "/proc/self/fd/9", store: "/var/lib/store"}
	err := k.named(fmt.Errorf("/proc/self/fd/9/.mailcryptfs/store.toml: %w", records.ErrCorrupt))
	if err.Error() != "/var/lib/store/.mailcryptfs/store.toml: damaged key record" || !errors.Is(err, records.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if other := errors.New("other"); k.named(other) != other || k.named(nil) != nil {
		t.Error("an error that names no path was changed")
	}
}
