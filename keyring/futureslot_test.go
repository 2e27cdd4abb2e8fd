package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// addFutureSlot gives a record a slot of a kind that a later program made.
func addFutureSlot(t *testing.T, f *fixture, u account.User) {
	t.Helper()
	path := recordPath(f, u, "record.toml")
	b, err := os.ReadFile(path)
	must(t, err)
	_, body, _ := bytes.Cut(b, []byte("\n"))
	body = append(body, "\n[[slot]]\nid = \"aaaaaaaaaaaaaaaa\"\nkind = \"retina\"\nlabel = \"eye\"\n"+
		"created = 2026-01-02T03:04:05Z\ncreated_by = \"root\"\nmore = 1\n"...)
	must(t, f.Site.RecordMAC.Use(func(key []byte) error {
		h := hmac.New(sha256.New, key)
		h.Write([]byte("mailcryptfs record v1\x00mailcryptfs user record\x00"))
		h.Write(body)
		return os.WriteFile(path, append(fmt.Appendf(nil, "mac = \"%x\"\n", h.Sum(nil)), body...), 0o600)
	}))
}

// TestFutureSlot keeps what it does not know, and does not replace the identity under it.
func TestFutureSlot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f, r := newTestRing(t)
	addFutureSlot(t, f, alice)
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if err := r.Rotate(ctx, alice, true, "root"); !errors.Is(err, ErrUnknownSlot) {
		t.Errorf("a new identity: %v", err)
	}
	if _, ok, err := r.Rotation(alice); ok || err != nil {
		t.Errorf("a rotation is under way: %v", err)
	}
	must(t, r.Rotate(ctx, alice, false, "root"))
	list, err := r.Slots(alice)
	must(t, err)
	if len(list) != 2 || list[1].Kind != "retina" || list[1].Label != "eye" {
		t.Errorf("%+v", list)
	}
	// Nobody knows whether it opens: it does not count as the last.
	if err := r.Revoke(ctx, alice, list[0].ID, false, "root"); !errors.Is(err, ErrLastSlot) {
		t.Errorf("the last slot that is known: %v", err)
	}
	// Asked for while locked, it has to wait; mail is served all the same.
	must(t, r.Lock(alice))
	must(t, r.Rotate(ctx, alice, true, "root"))
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if s, err := r.Status(alice); err != nil || !s.Unlocked || !strings.Contains(s.Error, "retina") || !seen(t, r).Pending {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, r.Revoke(ctx, alice, list[1].ID, false, "root"))
	must(t, r.Lock(alice))
	must(t, r.Unlock(ctx, alice, []byte("pw")))
	if s, err := r.Status(alice); err != nil || s.Error != "" || seen(t, r).Pending {
		t.Errorf("%+v, %v", s, err)
	}
}
