package check

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/former"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Names and limits of FORMAT.md K7 to K12.
const (
	usersName    = "users"
	storeName    = "store.toml"
	recordName   = "record.toml"
	previousName = "record.prev.toml"
	deliveryName = "delivery"
	auditName    = "audit"
	lockName     = ".lock"
	recordSuffix = ".toml"
	leftSuffix   = ".tmp"
	maxRecord    = 1 << 20
)

var errNotRegular = errors.New("it is not a regular file")

// recordsRun reads key records into the index of keys.
type recordsRun struct {
	*run
	quiet     bool                    // only the index is wanted
	authentic int                     // records that authenticate
	only      map[string]account.User // whose records are read, by escaped name; nil: everybody's
}

// records checks the key records of these users, or of all. The error is ErrForeign or that of the context.
func (r *run) records(only map[account.User]bool) error {
	k := &recordsRun{run: r, only: escaped(only)}
	if errors.Is(k.storeError(), records.ErrMAC) {
		// One record that authenticates shows that the store record is damaged, and the site secret right.
		k.quiet = true
		if err := k.all(); err != nil {
			return err
		}
		if k.authentic == 0 {
			return fmt.Errorf("%s: %w, or all its key records were changed", r.o.Store, ErrForeign)
		}
		k.quiet = false
	}
	return k.all()
}

// storeError returns what is wrong with the store record.
func (k *recordsRun) storeError() error {
	dir, err := k.root.OpenDir(names.KeyDir)
	if err != nil {
		return err
	}
	defer dir.Release()
	_, err = parseFile(dir, storeName, k.o.Site.RecordMAC, records.ParseStore)
	return err
}

// readLate reads the records of u again, and those of everybody once, for a key that is in none of them so far.
func (r *run) readLate(u account.User) {
	r.keys.mu.Lock()
	only := escaped(map[account.User]bool{u: true})
	if !r.keys.complete {
		only = nil
	}
	r.keys.mu.Unlock()
	// What is wrong with records was reported before; an end of the context ends the whole run.
	_ = (&recordsRun{run: r, only: only, quiet: true}).all()
}

func escaped(users map[account.User]bool) map[string]account.User {
	if users == nil {
		return nil
	}
	out := make(map[string]account.User)
	for u := range users {
		out[u.Escape()] = u
	}
	return out
}

// found reports a finding unless only the index is wanted.
func (k *recordsRun) found(f Finding) {
	if !k.quiet {
		k.run.found(f)
	}
}

// unreadable is found for what the lower filesystem refuses.
func (k *recordsRun) unreadable(f Finding, err error) {
	if !k.quiet {
		k.run.unreadable(f, err)
	}
}

func (k *recordsRun) all() error {
	path := join(k.o.Store, names.KeyDir)
	dir, err := k.openDir(k.root, names.KeyDir, path, "")
	if err != nil {
		k.found(Finding{Kind: StoreRecord, Store: path, Detail: "the directory of key records cannot be read: " + err.Error()})
		return k.ctx.Err()
	}
	defer dir.Release()
	k.storeRecord(dir, path)
	err = k.list(dir, path, "", func(name string) error {
		switch name {
		case usersName:
			return k.users(dir, join(path, name))
		case former.DirName:
			return k.mailboxes(dir, join(path, name))
		case storeName, auditName, records.EscrowName:
			return nil
		}
		k.other(path, name, "")
		return nil
	})
	if err == nil && k.only == nil {
		k.keys.mu.Lock()
		defer k.keys.mu.Unlock()
		k.keys.complete = true
	}
	return err
}

func (k *recordsRun) storeRecord(dir *backing.Dir, path string) {
	path = join(path, storeName)
	if _, err := read(k, dir, storeName, path, "", records.ParseStore); err != nil {
		k.found(Finding{Kind: StoreRecord, Store: path, Detail: reason(err)})
	}
}

func (k *recordsRun) users(root *backing.Dir, path string) error {
	dir, err := k.openDir(root, usersName, path, "")
	if err != nil {
		k.unreadable(Finding{Store: path}, err)
		return nil
	}
	defer dir.Release()
	return k.list(dir, path, "", func(name string) error {
		if k.only != nil {
			if u, ok := k.only[name]; ok {
				return k.user(dir, name, join(path, name), u)
			}
			return nil
		}
		u, err := account.Unescape(name)
		switch {
		case errors.Is(err, account.ErrHashed):
			u = k.hashed(dir, name)
		case err != nil:
			k.other(path, name, "")
			return nil
		}
		return k.user(dir, name, join(path, name), u)
	})
}

// hashed finds out whose directory the hash of a long name is; "" if no record tells.
func (k *recordsRun) hashed(users *backing.Dir, name string) account.User {
	dir, err := users.OpenDir(name)
	if err != nil {
		return ""
	}
	defer dir.Release()
	for _, file := range []string{recordName, previousName} {
		rec, err := parseFile(dir, file, k.o.Site.RecordMAC, records.ParseUser)
		if err == nil && rec.User.Escape() == name {
			return rec.User
		}
	}
	gone, err := parseFile(dir, forgottenName, k.o.Site.RecordMAC, records.ParseForgotten)
	if err == nil && gone.User.Escape() == name {
		return gone.User
	}
	return ""
}

// list calls f with the name of each entry of a directory of key records. The error is that of f or of the context.
func (k *recordsRun) list(dir *backing.Dir, path string, u account.User, f func(name string) error) error {
	own, err := dir.OpenDir(".")
	if err != nil {
		k.unreadable(Finding{Store: path, User: string(u)}, err)
		return nil
	}
	l := backing.NewLister(own)
	defer l.Close()
	for {
		e, ok, err := l.Peek()
		if err != nil {
			k.unreadable(Finding{Store: path, User: string(u)}, err)
			return nil
		}
		if !ok {
			return nil
		}
		l.Skip()
		if e.Name == "." || e.Name == ".." {
			continue
		}
		if err := k.ctx.Err(); err != nil {
			return err
		}
		if err := f(e.Name); err != nil {
			return err
		}
	}
}

// other judges an entry that is no record.
func (k *recordsRun) other(path, name string, u account.User) {
	f := Finding{Kind: Stray, Store: join(path, name), User: string(u), Detail: "it is no key record; nothing uses it"}
	switch {
	case name == lockName:
		return
	case strings.HasPrefix(name, ".") && strings.HasSuffix(name, leftSuffix):
		f.Kind, f.Detail = Leftover, "a key record that is being written, or whose writing was broken off"
	}
	k.found(f)
}

// unused reports delivery keys made before the given time that no file uses.
func (r *run) unused(before time.Time) {
	r.keys.mu.Lock()
	defer r.keys.mu.Unlock()
	for id, i := range r.keys.owner {
		if !i.delivery || !i.whole || i.used || !i.created.Before(before) {
			continue
		}
		r.found(Finding{
			Kind: DeliveryUnused, User: string(i.user), Detail: "no file is encrypted under this delivery key",
			Store: strings.Join([]string{r.o.Store, names.KeyDir, usersName, i.user.Escape(), deliveryName, id.String() + recordSuffix}, "/"),
		})
	}
}

// reason is the text of an error for a finding.
func reason(err error) string {
	if errors.Is(err, unix.ENOENT) {
		return "it is missing"
	}
	return err.Error()
}

// idOf returns the key id in the name of a delivery key.
func idOf(name string) (secret.ID, bool) {
	digits, ok := strings.CutSuffix(name, recordSuffix)
	if !ok {
		return secret.ID{}, false
	}
	id, err := secret.ParseID(digits)
	return id, err == nil
}
