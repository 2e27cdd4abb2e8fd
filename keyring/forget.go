package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Forgotten says what was destroyed of a user, when and by whom.
type Forgotten struct {
	User        account.User `json:"user"`
	Time        time.Time    `json:"time"`
	By          string       `json:"by"`
	Enrolled    time.Time    `json:"enrolled"` // since when the user had an identity
	Slots       int          `json:"slots"`
	ContentKeys int          `json:"content_keys"`
	Deliveries  int          `json:"delivery_keys"`
}

func forgottenOf(f *records.Forgotten) Forgotten {
	return Forgotten{
		User: f.User, Time: f.At, By: f.By, Enrolled: f.Enrolled,
		Slots: f.Slots, ContentKeys: f.ContentKeys, Deliveries: f.Deliveries,
	}
}

// forget destroys the keys on disk. When it fails after the user counts as forgotten, it returns both.
func (e *editor) forget(ctx context.Context, u account.User, by string) (Forgotten, error) {
	if err := checkText(by); err != nil {
		return Forgotten{}, err
	}
	home, err := e.records.Lock(u, false)
	if err != nil {
		return Forgotten{}, notEnrolled(err)
	}
	defer home.Release()
	f, err := home.Forget(by, e.now())
	if f == nil {
		return Forgotten{}, notEnrolled(err)
	}
	e.log.Warn("user forgotten: the mail is unreadable for ever", "user", string(u), "by", by)
	e.event(ctx, audit.Event{User: u, What: audit.Forget, By: by,
		Detail: fmt.Sprintf("%d slots, %d content keys, %d delivery keys destroyed", f.Slots, f.ContentKeys, f.Deliveries)})
	if err != nil {
		err = fmt.Errorf("the user is forgotten, but not everything was destroyed, run it again: %w", err)
	}
	return forgottenOf(f), err
}

// Forget locks the user and destroys every slot and key of his: what is sealed under them is unreadable for ever. Files
// are overwritten before they are freed, as far as that helps (FORMAT.md K18); backups are beyond reach. A record of it
// stays; the name can be enrolled again, with new keys. The first step is atomic: before it nothing has changed, after it
// the user is forgotten, and if a later one fails Forget returns what it should and the error, and can be called again.
// Errors: secret.ErrNotEnrolled, and what the keyring directory or the disk says.
func (r *Ring) Forget(ctx context.Context, u account.User, by string) (Forgotten, error) {
	if err := r.entries.Remove(u.Escape()); err != nil && !errors.Is(err, tmpfs.ErrNotFound) {
		return Forgotten{}, err
	}
	m := r.lookup(u)
	if m != nil {
		m.slow.Lock()
		defer m.slow.Unlock()
	}
	f, err := r.forget(ctx, u, by)
	if f.User == "" {
		return f, err
	}
	if m == nil {
		if m = r.lookup(u); m == nil {
			return f, err
		}
		// Somebody has read the record meanwhile.
		m.slow.Lock()
		defer m.slow.Unlock()
	}
	r.lockMember(m, "forgotten")
	r.leave(m)
	return f, err
}

// leave removes a member whose record is gone: he is not enrolled, and can be enrolled again.
func (r *Ring) leave(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members[m.user] == m {
		delete(r.members, m.user)
	}
}

// Forget is Ring.Forget; the entry in the keyring directory is removed if a directory was opened.
func (o *Offline) Forget(ctx context.Context, u account.User, by string) (Forgotten, error) {
	if o.entries != nil {
		if err := o.entries.Remove(u.Escape()); err != nil && !errors.Is(err, tmpfs.ErrNotFound) {
			return Forgotten{}, err
		}
	}
	f, err := o.forget(ctx, u, by)
	if f.User == "" {
		return f, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := o.members[u]; m != nil {
		m.wipe()
		delete(o.members, u)
	}
	return f, err
}

// Forgotten tells what Forget left a record of. Error: secret.ErrNotEnrolled if the user was never forgotten.
func (e *editor) Forgotten(u account.User) (Forgotten, error) {
	f, err := e.records.Forgotten(u)
	if err != nil {
		return Forgotten{}, notEnrolled(err)
	}
	return forgottenOf(f), nil
}

// wipe wipes what was opened of the user.
func (m *openedUser) wipe() {
	if m.identity != nil {
		m.identity.Wipe()
	}
	for _, k := range m.keys {
		k.Wipe()
	}
	m.keys = make(map[secret.ID]*secret.Key)
}
