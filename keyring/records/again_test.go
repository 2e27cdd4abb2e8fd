package records

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// TestInterrupted has a signal interrupt every step of every write, three times.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	tries, steps := make(map[string]int), 0
	interrupt := func() {
		clear(tries)
		d.trace = func(step, name string) error {
			steps++
			key := fmt.Sprint(step, " ", name)
			if tries[key]++; tries[key]%4 != 0 {
				return fmt.Errorf("%s: %w", key, unix.EINTR)
			}
			return nil
		}
	}
	interrupt()
	rec := goodUser(t, keys)
	create(t, d, rec)
	must(t, changeLabel(d, alice, "interrupted"))
	delivery, err := ParseDelivery(loadVector(t, filepath.Join(vectorDir, "delivery-good")).record, keys.RecordMAC)
	must(t, err)
	must(t, addDelivery(d, delivery))
	if _, err := d.Delivery(alice, delivery.ID); err != nil {
		t.Error(err)
	}
	must(t, withHome(d, func(h *Home) error { return h.Purge(func(*User) error { return nil }) }))
	must(t, withHome(d, func(h *Home) error { return h.DestroyDelivery(delivery.ID) }))
	if ids, err := d.Deliveries(alice); err != nil || len(ids) != 0 {
		t.Errorf("delivery keys %v, %v", ids, err)
	}
	loaded, err := d.Read(alice)
	if err != nil || loaded.Warning != nil || loaded.Slots[0].Label != "interrupted" || loaded.Serial != 3 {
		t.Errorf("%+v, %v", loaded, err)
	}
	if steps < 100 {
		t.Errorf("only %d steps", steps)
	}
}

// TestTooLarge refuses a change that makes the record too large before it touches a file.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	create(t, d, goodUser(t, keys))
	must(t, changeLabel(d, alice, "before"))
	before := snapshot(t, d, alice)
	err := withHome(d, func(h *Home) error {
		return h.Update(func(rec *User) error {
			for n := range 1 << 10 {
				k := rec.ContentKeys[0]
				k.ID[0], k.ID[1], k.State = byte(n>>8)+1, byte(n), Old
				k.Sealed = bytes.Repeat([]byte{1}, slot.SealedSize)
				rec.ContentKeys = append(rec.ContentKeys, k)
			}
			return nil
		})
	})
	if err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Fatalf("error %v", err)
	}
	if after := snapshot(t, d, alice); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Error("files were changed")
	}
}
