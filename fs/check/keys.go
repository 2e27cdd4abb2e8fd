package check

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// state is what came of the search for a file's key.
type state int

const (
	opened  state = iota // the key is at hand
	locked               // the key exists, but not at hand
	refused              // there is no such key for this file
)

// answer is what is known of one key for one user's files.
type answer struct {
	state  state
	key    *secret.Key  // opened
	user   account.User // whose files were asked for
	kind   Kind         // refused: what to report, and why
	detail string
}

// keyIndex knows whose the keys are, by the key records, and what Keys answered.
type keyIndex struct {
	mu       sync.Mutex
	owner    map[secret.ID]*keyInfo // guarded by mu
	broken   map[account.User]bool  // users without a usable record; guarded by mu
	answers  map[keyOfUser]answer   // guarded by mu
	complete bool                   // the records of all users were read; guarded by mu
}

type keyOfUser struct {
	user account.User
	id   secret.ID
}

// keyInfo is what the records tell of a key.
type keyInfo struct {
	user     account.User
	delivery bool
	whole    bool // the record of a delivery key is not damaged
	used     bool // by a file
	current  bool // new content is sealed under it
	created  time.Time
}

func newKeyIndex() *keyIndex {
	return &keyIndex{
		owner:   make(map[secret.ID]*keyInfo),
		broken:  make(map[account.User]bool),
		answers: make(map[keyOfUser]answer),
	}
}

func (x *keyIndex) add(id secret.ID, i keyInfo) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.owner[id] == nil {
		x.owner[id] = &i
	}
}

func (x *keyIndex) isCurrent(id secret.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.owner[id] != nil && x.owner[id].current
}

func (x *keyIndex) setBroken(u account.User) {
	if u == "" {
		return // a directory of which nothing tells whose it is
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.broken[u] = true
}

// use looks up a key that a file names, and notes that one does.
func (x *keyIndex) use(id secret.ID) (owner account.User, known bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.owner[id]
	if i == nil {
		return "", false
	}
	i.used = true
	return i.user, true
}

func (x *keyIndex) answered(k keyOfUser) (answer, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a, ok := x.answers[k]
	return a, ok
}

// remember keeps the first answer.
func (x *keyIndex) remember(k keyOfUser, a answer) answer {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.answers[k]; ok {
		return old
	}
	x.answers[k] = a
	return a
}

// keyFor finds the key of a file in p (C12).
func (r *run) keyFor(p place, id secret.ID) answer {
	switch id {
	case r.o.Site.Meta.ID:
		return answer{key: r.o.Site.Meta.Key}
	case r.o.Site.Delivery.ID:
		return answer{key: r.o.Site.Delivery.Key}
	}
	owner, known := r.keys.use(id)
	k := keyOfUser{p.user(), id}
	if p.adrift && known {
		k.user = owner // whose directory this is cannot be told
	}
	if was, ok := r.formerOwner(p, id); ok {
		k.user = was
	}
	if a, ok := r.keys.answered(k); ok {
		return a
	}
	a := r.ask(k)
	a.user = k.user
	return r.keys.remember(k, a)
}

// ask finds out about a key that no file has named before.
func (r *run) ask(k keyOfUser) answer {
	err := error(secret.ErrUnknownKey)
	if k.user != "" && r.o.Keys != nil {
		var key *secret.Key
		if key, err = r.o.Keys.OpeningKey(k.user, k.id); err == nil {
			return answer{key: key}
		}
	}
	switch {
	case errors.Is(err, secret.ErrLocked), errors.Is(err, secret.ErrWiped):
		return answer{state: locked}
	case !errors.Is(err, secret.ErrUnknownKey) && !errors.Is(err, secret.ErrNotEnrolled):
		return answer{state: refused, kind: KeyUnusable, detail: fmt.Sprintf("its content key %s cannot be opened: %v", k.id, err)}
	}
	return r.byRecords(k)
}

// byRecords judges a key that Keys does not know by the key records of all users.
func (r *run) byRecords(k keyOfUser) answer {
	owner, known := r.keys.use(k.id)
	if !known {
		r.readLate(k.user) // the daemon made it after the records were read
		owner, known = r.keys.use(k.id)
	}
	a := answer{state: refused}
	switch {
	case known && owner == k.user:
		return answer{state: locked}
	case known && k.user == "":
		a.kind, a.detail = WrongUser, fmt.Sprintf("it is encrypted under a key of %q, but lies in nobody's tree", owner)
	case known:
		a.kind, a.detail = WrongUser, fmt.Sprintf("it is encrypted under a key of %q", owner)
	case r.isBroken(k.user):
		a.kind, a.detail = KeyUnusable, fmt.Sprintf("no key record tells of its content key %s; that of the user is damaged", k.id)
	default:
		a.kind, a.detail = UnknownKey, fmt.Sprintf("nobody has its content key %s", k.id)
	}
	return a
}

func (r *run) isBroken(u account.User) bool {
	r.keys.mu.Lock()
	defer r.keys.mu.Unlock()
	return r.keys.broken[u]
}
