package tree

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/former"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/inode"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// records opens the directory of records of former owners.
func (t *Tree) records(create bool) (*backing.Dir, error) {
	keys, err := t.Store.OpenDir(names.KeyDir)
	if err != nil {
		return nil, err
	}
	defer keys.Release()
	d, err := keys.OpenDir(former.DirName)
	if !errors.Is(err, unix.ENOENT) || !create {
		return d, err
	}
	if err := keys.Mkdir(former.DirName, 0o700, backing.Owner{}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	if err := keys.Sync(); err != nil {
		return nil, err
	}
	return keys.OpenDir(former.DirName)
}

// readFormer returns whose mailbox id was before.
func (t *Tree) readFormer(id string) ([]account.User, error) {
	name, ok := former.FileName(id)
	if !ok {
		return nil, nil
	}
	d, err := t.records(false)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Release()
	b, err := d.ReadSmall(name, former.MaxRecord)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	users, err := former.Parse(b, id, t.Site.RecordMAC)
	if errors.Is(err, former.ErrRecord) {
		t.Log.Error("the record of whose mailbox this was is damaged: restore it from a backup, or remove it", "mailbox", id)
		return nil, nil
	}
	return users, err
}

// writeFormer makes durable whose mailbox id was before; nobody's removes the record.
func (t *Tree) writeFormer(id string, users []account.User) error {
	name, ok := former.FileName(id)
	if !ok && len(users) > 0 {
		return fmt.Errorf("mailbox %q cannot change hands: %w", id, unix.EPERM)
	}
	d, err := t.records(len(users) > 0)
	if errors.Is(err, unix.ENOENT) && len(users) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Release()
	if len(users) == 0 {
		if err := d.Unlink(name); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	}
	if len(users) > former.MaxUsers {
		return fmt.Errorf("mailbox %s had too many owners: %w", id, unix.EPERM)
	}
	b, err := former.Encode(id, users, t.Site.RecordMAC)
	if err != nil {
		return err
	}
	temp := "." + names.Temporary() + ".tmp" // K7: it has no meaning
	if err := d.WriteDurable(temp, b); err != nil {
		return err
	}
	if err := d.Rename(temp, d, name, 0); err != nil {
		_ = d.Unlink(temp)
		return err
	}
	return d.Sync()
}

// foreign reports whether the key id is neither the site's nor one of the owner of the
// file, and may be one of a former owner.
func (k fileKeys) foreign(id secret.ID) bool {
	if len(k.former) == 0 || id == k.t.Site.Meta.ID || id == k.t.Site.Delivery.ID {
		return false
	}
	if k.user == "" {
		return true
	}
	_, err := k.t.Keys.OpeningKey(k.user, id)
	return unknown(err)
}

func unknown(err error) bool {
	return errors.Is(err, secret.ErrUnknownKey) || errors.Is(err, secret.ErrNotEnrolled)
}

// formerKey returns the content key id of one of the former owners.
func (k fileKeys) formerKey(id secret.ID) (*secret.Key, error) {
	err := fmt.Errorf("%w: %v", secret.ErrUnknownKey, id)
	for _, u := range k.former {
		key, e := k.t.Keys.OpeningKey(u, id)
		if !unknown(e) {
			return key, e
		}
	}
	return nil, err
}

// Settle removes the record of former owners of box n when none of its files is under
// a key of theirs any more.
func (t *Tree) Settle(n *inode.Inode) {
	if len(t.Table.Route(n).Former()) == 0 || !t.Table.Route(n).Box() {
		return
	}
	l, err := t.OpenDir(n)
	if err != nil {
		return
	}
	defer l.Close()
	n.NS.Lock() // before the first entry is read: none comes, or changes its name, until the record has gone
	defer n.NS.Unlock()
	files, _, err := l.entries()
	if err != nil {
		return
	}
	for _, name := range files {
		if left, err := t.underFormer(n, l.list.Dir(), name); left || err != nil {
			return
		}
	}
	a, ok := t.Table.Alias(n)
	if !ok {
		return // removed since it was opened, and its record with it
	}
	m := *n.Box.Load().Mailbox.Load()
	if err := t.writeFormer(a.Name, nil); err != nil {
		return
	}
	m.Former = nil
	t.settle(n, &m)
}

// underFormer reports whether the file name of n may need a key of a former owner.
func (t *Tree) underFormer(n *inode.Inode, d *backing.Dir, name string) (bool, error) {
	s, st, err := t.find(n, d, name)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil || !s.Kind.Sealed() || st.Size == 0 || t.Table.Route(n).Class(name) == route.Meta {
		return false, err
	}
	id, err := t.keyID(n, d, s, &st)
	return t.keysFor(n, name).foreign(id), err
}
