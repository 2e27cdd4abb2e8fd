package recovery

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// FuzzTexts hands bodies, under a right sum, to every parser: what is taken is written as it was meant.
func FuzzTexts(f *testing.F) {
	id, err := slot.NewIdentity()
	must(f, err)
	defer id.Wipe()
	r, _, err := NewRequest(StoreID{7}, alice, id.Public().Bytes(), []Slot{{Wrapped: []byte("x")}}, "root", begin)
	must(f, err)
	body, err := r.body()
	must(f, err)
	f.Add(body)
	f.Add([]byte("version = 1\nrequest = \"00\"\n"))
	f.Add([]byte("version = 1\nset = \"0011223344556677\"\nnumber = 1\nof = 3\nneeded = 2\nvalues = \"\"\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		known := func(err error) bool {
			for _, kind := range []error{ErrKind, ErrTruncated, ErrDamaged} {
				if errors.Is(err, kind) {
					return true
				}
			}
			return false
		}
		text := func(k kind) []byte { return armour(k, bytes.Clone(body)) }
		if r, err := ParseRequest(text(kindRequest)); err == nil {
			again, err := r.Encode()
			must(t, err)
			if _, err := ParseRequest(again); err != nil {
				t.Errorf("cannot be read again: %v", err)
			}
		} else if !known(err) {
			t.Errorf("request: %v", err)
		}
		if _, err := ParseAnswer(text(kindAnswer)); err != nil && !known(err) {
			t.Errorf("answer: %v", err)
		}
		if p, err := ParsePending(text(kindPending)); err == nil {
			p.Wipe()
		} else if !known(err) {
			t.Errorf("pending: %v", err)
		}
		if _, err := ReadShare(text(kindShare)); err != nil && !known(err) {
			t.Errorf("share: %v", err)
		}
	})
}
