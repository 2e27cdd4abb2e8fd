package check

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/content"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// fixture is a store that is written with the packages that the daemon uses, and the keys of its users.
type fixture struct {
	testing.TB
	store   string
	site    *site.Keys
	codec   *names.Codec
	plain   *names.Codec // names = "plain"
	xattrs  *seal.XAttrs
	records *records.Dir

	mu     sync.Mutex
	public map[account.User]*slot.Public
	keys   map[account.User]map[secret.ID]*secret.Key
	now    map[account.User]secret.ContentKey
	locked map[account.User]bool
	hook   func(account.User, secret.ID) // called by OpeningKey
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSite(t testing.TB) *site.Keys {
	t.Helper()
	raw := make([]byte, 32)
	rand.Read(raw)
	s, err := site.Derive(raw)
	must(t, err)
	t.Cleanup(s.Wipe)
	return s
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{
		TB: t, store: filepath.Join(t.TempDir(), "store"), site: newSite(t),
		public: map[account.User]*slot.Public{}, keys: map[account.User]map[secret.ID]*secret.Key{},
		now: map[account.User]secret.ContentKey{}, locked: map[account.User]bool{},
	}
	must(t, os.Mkdir(f.store, 0o755))
	keys, err := seal.NewNames(f.site.NamesMAC, f.site.NamesEnc)
	must(t, err)
	f.codec, f.plain = names.New(keys, false), names.New(keys, true)
	f.xattrs, err = seal.NewXAttrs(f.site.XAttr)
	must(t, err)
	f.records, err = records.Create(f.store, f.site.RecordMAC, time.Now())
	must(t, err)
	t.Cleanup(f.records.Close)
	return f
}

// OpeningKey implements Keys.
func (f *fixture) OpeningKey(u account.User, id secret.ID) (*secret.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, known := f.keys[u][id]
	switch {
	case f.public[u] == nil:
		return nil, secret.ErrNotEnrolled
	case !known:
		if f.hook != nil {
			f.hook(u, id)
		}
		return nil, secret.ErrUnknownKey
	case f.locked[u]:
		return nil, secret.ErrLocked
	}
	return k, nil
}

func (f *fixture) newKey(u account.User) secret.ContentKey {
	f.Helper()
	k, err := secret.RandomKey()
	must(f, err)
	ck := secret.ContentKey{ID: secret.RandomID(), Key: k}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys[u] == nil {
		f.keys[u] = map[secret.ID]*secret.Key{}
	}
	f.keys[u][ck.ID] = k
	return ck
}

// enroll gives a user a record with one content key.
func (f *fixture) enroll(u account.User) {
	f.Helper()
	identity, err := slot.NewIdentity()
	must(f, err)
	f.now[u], f.public[u] = f.newKey(u), identity.Public()
	sealed, err := f.public[u].Seal(u, f.now[u])
	must(f, err)
	home, err := f.records.Lock(u, true)
	must(f, err)
	defer home.Release()
	now := time.Now().UTC().Truncate(time.Second)
	rec := &records.User{
		User: u, Created: now,
		Slots: []records.Slot{{
			ID: slot.RandomID(), Kind: slot.KindPassword, Label: "login password", Created: now, CreatedBy: "root",
			Public: make([]byte, slot.PublicSize), Wrapped: make([]byte, slot.WrappedSize), Params: slot.Params{MemoryKiB: 8192, Time: 1, Threads: 1},
		}},
		ContentKeys: []records.ContentKey{{ID: f.now[u].ID, Created: now, State: records.Current, Sealed: sealed}},
	}
	copy(rec.Public[:], f.public[u].Bytes())
	rand.Read(rec.Salt[:])
	must(f, home.Create(rec))
}

// change writes the user's record anew, so that there is a previous one.
func (f *fixture) change(u account.User) {
	f.Helper()
	home, err := f.records.Lock(u, false)
	must(f, err)
	defer home.Release()
	must(f, home.Update(func(*records.User) error { return nil }))
}

// deliveryKey makes a delivery key as old as a day.
func (f *fixture) deliveryKey(u account.User) secret.ContentKey {
	f.Helper()
	ck := f.newKey(u)
	f.writeDelivery(u, ck)
	return ck
}

func (f *fixture) writeDelivery(u account.User, ck secret.ContentKey) {
	f.Helper()
	sealed, err := f.public[u].Seal(u, ck)
	must(f, err)
	home, err := f.records.Lock(u, false)
	must(f, err)
	defer home.Release()
	created := time.Now().UTC().Add(-24 * time.Hour).Truncate(time.Second)
	must(f, home.AddDelivery(&records.Delivery{User: u, ID: ck.ID, Created: created, Sealed: sealed}))
}

// record is the path of a file of the user's key records.
func (f *fixture) record(u account.User, elem ...string) string {
	return filepath.Join(append([]string{f.store, names.KeyDir, "users", u.Escape()}, elem...)...)
}

// path is where an entry of the view is stored; directories on the way are made.
func (f *fixture) path(view string) string {
	f.Helper()
	at := f.store
	parts := strings.Split(view, "/")
	for i, p := range parts {
		s := f.codec.Encrypt(p)
		if s.Long {
			must(f, os.WriteFile(filepath.Join(at, s.Side()), f.codec.SideContent(p), 0o600))
		}
		at = filepath.Join(at, s.Name)
		if i < len(parts)-1 {
			must(f, os.MkdirAll(at, 0o700))
		}
	}
	return at
}

// fileKeys implements content.Keys.
type fileKeys struct {
	ck     secret.ContentKey
	layout format.Layout
}

func (k fileKeys) New() (format.Header, *seal.FileKey, error) {
	h := format.Header{Layout: k.layout, KeyID: k.ck.ID}
	seal.Nonces(h.Salt[:])
	key, err := seal.NewFileKey(k.ck.Key, &h)
	return h, key, err
}

func (k fileKeys) Open(h *format.Header) (*seal.FileKey, error) { return seal.NewFileKey(k.ck.Key, h) }

// write stores content at a path of the store.
func (f *fixture) write(stored string, ck secret.ContentKey, l format.Layout, size int) string {
	f.Helper()
	d, err := backing.OpenRoot(filepath.Dir(stored))
	must(f, err)
	defer d.Release()
	low, err := d.Create(filepath.Base(stored), 0o600, backing.Owner{})
	must(f, err)
	defer low.Close()
	c, err := content.Open(low, 0, fileKeys{ck, l})
	must(f, err)
	_, err = c.WriteAt(bytes.Repeat([]byte("mail"), size/4+1)[:size], 0)
	must(f, err)
	return stored
}

func (f *fixture) message(view string, ck secret.ContentKey, size int) string {
	f.Helper()
	return f.write(f.path(view), ck, format.WriteOnce, size)
}

func (f *fixture) padded(view string, ck secret.ContentKey, size int) string {
	f.Helper()
	return f.write(f.path(view), ck, format.Padded, size)
}

// patch overwrites bytes of a file.
func (f *fixture) patch(path string, off int64, b ...byte) {
	f.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(f, err)
	_, err = file.WriteAt(b, off)
	must(f, err)
	must(f, file.Close())
}

// flip changes one bit of a file.
func (f *fixture) flip(path string, off int64) {
	f.Helper()
	b, err := os.ReadFile(path)
	must(f, err)
	f.patch(path, off, b[off]^1)
}

func (f *fixture) options() Options {
	return Options{Store: f.store, View: "/srv/mail", Site: f.site, Keys: f, Profile: "dovecot-maildir", UserPath: "%u"}
}

// verify checks the store and fails if that changed anything of it, times of access included.
func (f *fixture) verify(o Options) ([]Finding, Summary) {
	f.Helper()
	before := snapshot(f, f.store)
	var found []Finding
	s, err := Verify(f.Context(), o, func(x Finding) { found = append(found, x) })
	must(f, err)
	if after := snapshot(f, f.store); after != before {
		f.Errorf("the store was changed: %s", difference(before, after))
	}
	return found, s
}

// difference returns the lines of after that are not in before.
func difference(before, after string) string {
	var b strings.Builder
	for line := range strings.Lines(after) {
		if !strings.Contains(before, line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// snapshot describes every entry of a tree: type, mode, owner, size, times, content, target, attributes.
func snapshot(t testing.TB, root string) string {
	t.Helper()
	frozen, thaw, err := Freeze(root) // so that looking changes nothing either
	must(t, err)
	defer thaw()
	var out strings.Builder
	must(t, filepath.WalkDir(frozen+"/.", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		var sum [32]byte
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(b)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256([]byte(target))
		}
		fmt.Fprintln(&out, strings.TrimPrefix(path, frozen), st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Size, st.Atim, st.Mtim, st.Ctim, hex.EncodeToString(sum[:8]))
		return nil
	}))
	return out.String()
}
