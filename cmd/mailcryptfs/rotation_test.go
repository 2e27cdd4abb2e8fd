package main

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring"
)

func TestConverterEndsRotations(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    *forest
		want []string // passes within a minute
	}{
		{"nothing left", &forest{rotation: &keyring.Rotation{}}, []string{"encrypt dry", "sealed", "finish"}},
		{"entries left", &forest{rotation: &keyring.Rotation{}, left: 2}, []string{"encrypt dry", "encrypt", "sealed", "finish"}},
		{"a file is open", &forest{rotation: &keyring.Rotation{}, open: 1}, []string{"encrypt dry", "sealed", "encrypt dry", "sealed", "finish"}},
		{"the identity waits for an unlock", &forest{rotation: &keyring.Rotation{Pending: true}}, []string{"encrypt dry", "encrypt dry"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			converting(t, tt.f, func(c *converter) {
				tt.f.unlock()
				c.poke()
				after(45 * time.Second)
				if !slices.Equal(tt.f.seen(), tt.want) {
					t.Errorf("passes %q, want %q", tt.f.seen(), tt.want)
				}
				if p := c.of(owner); p.State != control.StateDone {
					t.Errorf("%+v", p)
				}
			})
		})
	}
}

// TestConverterKeepsOldKeys: what cannot be read now may be readable again, so nothing is destroyed.
func TestConverterKeepsOldKeys(t *testing.T) {
	for name, f := range map[string]*forest{
		"damaged file":  {rotation: &keyring.Rotation{}, left: 1, failed: 1},
		"open for days": {rotation: &keyring.Rotation{}, open: 1 << 30},
		"broken store":  {rotation: &keyring.Rotation{}, err: errors.New("disk on fire")},
	} {
		t.Run(name, func(t *testing.T) {
			converting(t, f, func(c *converter) {
				f.unlock()
				c.poke()
				after(time.Hour)
				if slices.Contains(f.seen(), "finish") || f.rotation == nil {
					t.Errorf("the old keys were destroyed: %q", f.seen())
				}
				if p := c.of(owner); p.State != control.StateStopped && p.State != control.StateBusy && p.State != control.StateCounting {
					t.Errorf("%+v", p)
				}
				if n := len(f.seen()); n > 2000 {
					t.Errorf("%d passes in an hour", n)
				}
			})
		})
	}
}
