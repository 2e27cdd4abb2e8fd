package fs_test

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// keys is a KeySource with one content key for each user, who can be locked.
type keys struct {
	mu     sync.Mutex
	user   map[account.User]secret.ContentKey
	old    map[secret.ID]*secret.Key // retired, of whomever
	locked map[account.User]bool
}

func (k *keys) SealingKey(u account.User) (secret.ContentKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ck, ok := k.user[u]; ok {
		return ck, nil
	}
	key, err := secret.RandomKey()
	if err != nil {
		return secret.ContentKey{}, err
	}
	ck := secret.ContentKey{ID: secret.RandomID(), Key: key}
	k.user[u] = ck
	return ck, nil
}

func (k *keys) OpeningKey(u account.User, id secret.ID) (*secret.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ck, ok := k.user[u]
	switch {
	case !ok:
		return nil, secret.ErrNotEnrolled
	case ck.ID != id && k.old[id] == nil:
		return nil, secret.ErrUnknownKey
	case k.locked[u]:
		return nil, secret.ErrLocked
	case k.old[id] != nil:
		return k.old[id], nil
	}
	return ck.Key, nil
}

func (k *keys) Holds(u account.User) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.locked[u]
}

func (k *keys) Retired(_ account.User, id secret.ID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.old[id] != nil
}

// rotate gives u a new content key; forget destroys the retired ones.
func (k *keys) rotate(u account.User) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.old[k.user[u].ID] = k.user[u].Key
	delete(k.user, u)
}

func (k *keys) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.old)
}

func (k *keys) lock(u account.User, on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.locked[u] = on
}

type mount struct {
	*fs.View
	keys        *keys
	store, view string
}

func mountView(t *testing.T) mount {
	t.Helper()
	return mountStore(t, t.TempDir())
}

func mountStore(t *testing.T, store string) mount {
	t.Helper()
	return mountWith(t, store, func(*fs.Options) {})
}

func mountWith(t *testing.T, store string, adapt func(*fs.Options)) mount {
	t.Helper()
	m := mount{keys: &keys{user: map[account.User]secret.ContentKey{}, locked: map[account.User]bool{}, old: map[secret.ID]*secret.Key{}}, store: store, view: t.TempDir()}
	raw := make([]byte, 32)
	rand.Read(raw)
	s, err := site.Derive(raw)
	if err != nil {
		t.Fatal(err)
	}
	o := fs.Options{
		Store: m.store, View: m.view, XAttrs: true, Site: s, Keys: m.keys, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Layout: fs.Layout{Profile: "dovecot-maildir", User: "%u", Names: "encrypted", Delivery: "sealed", Unenrolled: "site", Plain: "serve"},
	}
	adapt(&o)
	m.View, err = fs.Mount(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
		m.Wait()
	})
	return m
}

// TestPosix runs go-fuse's conformance tests on a real mount, for files of the site
// and for messages.
func TestPosix(t *testing.T) {
	for _, place := range []string{"alice", "alice/cur"} {
		for name, test := range posixtest.All {
			if name == "FcntlFlockLocksFile" {
				// It wants two descriptors of one process to conflict, against fcntl(2):
				// ext4 and tmpfs fail it too, and go-fuse leaves it out of its own run.
				continue
			}
			t.Run(place+"/"+name, func(t *testing.T) {
				store := t.TempDir()
				if name == "XAttrLarge" {
					mountImage(t, store)
				}
				m := mountStore(t, store)
				dir := filepath.Join(m.view, place)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				test(t, dir)
			})
		}
	}
}

// mountImage mounts an ext4 that takes extended attributes of more than a block.
func mountImage(t *testing.T, dir string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	for _, c := range []*exec.Cmd{
		exec.Command("truncate", "-s", "32M", image),
		exec.Command("mkfs.ext4", "-q", "-O", "ea_inode", image),
		exec.Command("mount", "-o", "loop", image, dir),
	} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

// TestLocked shows the one difference that a lock makes.
func TestLocked(t *testing.T) {
	m := mountView(t)
	dir := filepath.Join(m.view, "alice", "cur")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "message")
	if err := os.WriteFile(name, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.keys.lock("alice", true)
	m.KeysGone("alice")
	if _, err := os.ReadFile(name); !errors.Is(err, unix.EACCES) {
		t.Fatalf("read of a locked message: %v, want EACCES", err)
	}
	if fi, err := os.Stat(name); err != nil || fi.Size() != 6 {
		t.Fatalf("stat of a locked message: %v, %v", fi, err)
	}
	m.keys.lock("alice", false)
	if b, err := os.ReadFile(name); err != nil || string(b) != "hello\n" {
		t.Fatalf("read of an unlocked message: %q, %v", b, err)
	}
}
