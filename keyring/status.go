package keyring

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Status is what is known of one user.
type Status struct {
	User     account.User `json:"user"`
	Enrolled bool         `json:"enrolled"`
	Unlocked bool         `json:"unlocked"`
	Since    time.Time    `json:"since,omitzero"`  // of the unlock
	Used     time.Time    `json:"used,omitzero"`   // of the last login, or of the unlock
	By       string       `json:"by,omitempty"`    // what unlocked: the slot, or the keyring entry of a slot
	Keys     int          `json:"keys,omitempty"`  // content keys that the identity has opened
	Until    time.Time    `json:"until,omitzero"`  // a delivery key is in memory until then
	Error    string       `json:"error,omitempty"` // the last thing that went wrong, in one line
}

// Status says what is known of the user. A user who is not enrolled, or whose record cannot be used, is no error.
func (r *Ring) Status(u account.User) (Status, error) {
	if m := r.lookup(u); m != nil {
		return m.status(), nil
	}
	s := Status{User: u}
	var err error
	if s.Enrolled, err = r.records.Enrolled(u); err != nil {
		return Status{}, err
	}
	if s.Enrolled {
		if _, err := r.records.Read(u); err != nil {
			s.Error = err.Error()
		}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if reason := r.refused[u.Escape()]; reason != "" && s.Error == "" {
		s.Error = "keyring entry refused: " + reason
	}
	return s, nil
}

// Unlocked says what is known of each unlocked user, ordered by name.
func (r *Ring) Unlocked() []Status {
	var list []Status
	for _, m := range r.all() {
		if s := m.status(); s.Unlocked {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.User, b.User) })
	return list
}

// Users returns all enrolled users, ordered by name, and with them an error that names every entry of the store's user
// directory that is not a user's; nil if there is none.
func (r *Ring) Users() ([]account.User, error) {
	users, problems, err := r.records.Users()
	slices.Sort(users)
	return users, errors.Join(err, errors.Join(problems...))
}

func (m *member) status() Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := Status{
		User: m.user, Enrolled: true, Unlocked: m.identity != nil,
		Since: m.since, Used: m.used, By: m.by, Keys: len(m.opened), Error: m.lastErr,
	}
	if s.Error == "" && m.loaded.Warning != nil {
		s.Error = m.loaded.Warning.Error()
	}
	if n := len(m.delivery); n > 0 {
		s.Until = m.delivery[n-1].until
	}
	return s
}

// all returns every member that is known.
func (r *Ring) all() []*member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*member, 0, len(r.members))
	for _, m := range r.members {
		list = append(list, m)
	}
	return list
}
