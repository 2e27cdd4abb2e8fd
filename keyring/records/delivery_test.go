package records

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func TestDeliveries(t *testing.T) {
	t.Parallel()
	keys := siteKeys(t)
	d := newDir(t, keys)
	create(t, d, goodUser(t, keys))
	v := loadVector(t, filepath.Join(vectorDir, "delivery-good"))
	rec, err := ParseDelivery(v.record, keys.RecordMAC)
	must(t, err)
	if ids, err := d.Deliveries(alice); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := d.Delivery(alice, rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	h, err := d.Lock(alice, false)
	must(t, err)
	defer h.Release()
	must(t, h.DestroyDelivery(rec.ID))
	must(t, h.AddDelivery(rec))
	if got, err := d.Delivery(alice, rec.ID); err != nil || !reflect.DeepEqual(got, rec) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := d.Delivery("bob", rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another user: %v", err)
	}
	must(t, os.WriteFile(d.userPath(alice, deliveryName, "README"), nil, 0o600))
	if ids, err := d.Deliveries(alice); err != nil || !slices.Equal(ids, []secret.ID{rec.ID}) {
		t.Errorf("%v, %v", ids, err)
	}
	other := *rec
	other.User = "bob"
	if err := h.AddDelivery(&other); err == nil {
		t.Error("another user's key was taken")
	}
	must(t, h.DestroyDelivery(rec.ID))
	if _, err := d.Delivery(alice, rec.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("after: %v", err)
	}
}
