package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func recordPath(f *fixture, u account.User, name string) string {
	return filepath.Join(f.Store, records.DirName, "users", u.Escape(), name)
}

// update changes a record as another process would.
func (f *fixture) update(t *testing.T, u account.User, change func(*records.User) error) {
	t.Helper()
	d, err := records.Open(f.Store, f.Site.RecordMAC)
	must(t, err)
	defer d.Close()
	h, err := d.Lock(u, false)
	must(t, err)
	defer h.Release()
	must(t, h.Update(change))
}

// tree describes every file of store and keyring directory.
func tree(t *testing.T, f *fixture) string {
	t.Helper()
	var b strings.Builder
	for _, root := range []string{f.Store, f.Dir} {
		must(t, filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err == nil {
				b.WriteString(path + " " + info.Mode().String() + " " + info.ModTime().Format(time.RFC3339Nano) + "\n")
			}
			return err
		}))
	}
	return b.String()
}

// mailKeys are a content key and a delivery key of alice, with their bytes.
type mailKeys struct {
	content, delivery           secret.ID
	contentBytes, deliveryBytes []byte
}

// someMail makes a delivery key, and leaves alice unlocked.
func someMail(t *testing.T, r *Ring) mailKeys {
	t.Helper()
	d, err := r.SealingKey(alice)
	must(t, err)
	k := mailKeys{delivery: d.ID, deliveryBytes: keyBytes(t, d.Key)}
	must(t, r.Unlock(t.Context(), alice, []byte("pw")))
	c, err := r.SealingKey(alice)
	must(t, err)
	k.content, k.contentBytes = c.ID, keyBytes(t, c.Key)
	return k
}

func (k mailKeys) open(t *testing.T, r *Ring) {
	t.Helper()
	for id, want := range map[secret.ID][]byte{k.content: k.contentBytes, k.delivery: k.deliveryBytes} {
		key, err := r.OpeningKey(alice, id)
		if err != nil || !bytes.Equal(keyBytes(t, key), want) {
			t.Errorf("key %s: %v", id, err)
		}
	}
}

func (k mailKeys) gone(t *testing.T, f *fixture, r *Ring) {
	t.Helper()
	for _, id := range []secret.ID{k.content, k.delivery} {
		if _, err := r.OpeningKey(alice, id); !errors.Is(err, secret.ErrUnknownKey) {
			t.Errorf("old key %s: %v", id, err)
		}
		// Not in any file either, the previous record included.
		must(t, filepath.Walk(filepath.Join(f.Store, records.DirName), func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte(id.String())) || strings.Contains(path, id.String()) {
				t.Errorf("%s still names key %s: %v", path, id, err)
			}
			return nil
		}))
	}
}

func seen(t *testing.T, r *Ring) Rotation {
	t.Helper()
	x, ok, err := r.Rotation(alice)
	if err != nil || !ok {
		t.Fatalf("no rotation: %v", err)
	}
	return x
}
