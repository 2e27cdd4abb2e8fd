package recovery

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// A recovery key that stays on another machine opens a slot there. A request carries the user's recovery slots and the
// public half of a key pair for this one purpose to that machine; the answer brings the identity back, sealed to it. What
// opens the answer stays with the server, for root alone, in the pending file. Neither the request nor the answer is
// secret, but whoever could replace a request on its way would be answered in the server's place: people compare its
// Fingerprint on both machines.

// Lifetime is how long a request may be answered and its answer be applied.
const Lifetime = 14 * 24 * time.Hour

// maxSlots is how many recovery slots a request carries (FORMAT.md K10).
const maxSlots = 64

// answerLabel begins the HPKE info of an answer (FORMAT.md K21).
const answerLabel = "mailcryptfs recovery answer v1\x00"

var (
	// ErrExpired says that the time of a request is over.
	ErrExpired = errors.New("the request has expired: make a new one")
	// ErrReplayed says that the request was answered and used before.
	ErrReplayed = errors.New("the request was used already: an answer serves once")
	// ErrOtherRequest says that an answer belongs to another request.
	ErrOtherRequest = errors.New("it answers another request")
	// ErrForeign says that an answer is for another user or another store, or was not sealed for this request.
	ErrForeign = errors.New("it is not for this user and store")
)

// ID names a request: 16 random bytes.
type ID [16]byte

// String returns 32 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// StoreID is the id in the record of a store (FORMAT.md K12).
type StoreID [16]byte

// String returns 32 lower-case hex digits.
func (id StoreID) String() string { return hex.EncodeToString(id[:]) }

// Slot is a recovery slot of the user.
type Slot struct {
	ID        slot.ID
	Recipient string
	Wrapped   []byte
}

// Request asks for the identity of one user. Nothing in it is secret.
type Request struct {
	ID       ID
	Store    StoreID
	User     account.User
	By       string // who asks, at most 128 bytes
	Created  time.Time
	Expires  time.Time
	Public   []byte // the answer is sealed to it
	Identity []byte // the public half of the user's identity
	Slots    []Slot
}

// Pending is what the server keeps of a request until it is answered. The private half in it is secret: whoever makes or
// reads one wipes it.
type Pending struct {
	ID       ID
	Store    StoreID
	User     account.User
	Created  time.Time
	Expires  time.Time
	Used     time.Time // zero until Spend
	Identity []byte    // the public half of the user's identity
	public   []byte
	pair     *slot.Identity // nil once spent
}

// NewRequest makes a request for the identity whose public half is given, and what the server keeps of it. by is at most
// 128 bytes of UTF-8. Errors: ErrNoMatch without any slot, secret.ErrMemory.
func NewRequest(store StoreID, u account.User, identity []byte, slots []Slot, by string, now time.Time) (*Request, *Pending, error) {
	if len(slots) == 0 {
		return nil, nil, fmt.Errorf("%w: the user has no slot for one", ErrNoMatch)
	}
	pair, err := slot.NewIdentity()
	if err != nil {
		return nil, nil, err
	}
	now = now.UTC().Truncate(time.Second)
	r := &Request{
		Store: store, User: u, By: by, Created: now, Expires: now.Add(Lifetime),
		Public: pair.Public().Bytes(), Identity: identity, Slots: slots,
	}
	_, _ = rand.Read(r.ID[:]) // never fails
	p := &Pending{ID: r.ID, Store: store, User: u, Created: now, Expires: r.Expires, Identity: identity, public: r.Public, pair: pair}
	return r, p, nil
}

type requestText struct {
	Version  int        `toml:"version"`
	ID       string     `toml:"id"`
	Store    string     `toml:"store"`
	User     string     `toml:"user,omitempty"`
	UserHex  string     `toml:"user_hex,omitempty"`
	By       string     `toml:"by"`
	Created  time.Time  `toml:"created"`
	Expires  time.Time  `toml:"expires"`
	Public   string     `toml:"public"`
	Identity string     `toml:"identity"`
	Slots    []slotText `toml:"slot"`
}

type slotText struct {
	ID        string `toml:"id"`
	Recipient string `toml:"recipient"`
	Wrapped   string `toml:"wrapped"`
}

// Encode returns the request as text.
func (r *Request) Encode() ([]byte, error) {
	body, err := r.body()
	if err != nil {
		return nil, err
	}
	return armour(kindRequest, body), nil
}

func (r *Request) body() ([]byte, error) {
	t := requestText{
		Version: version, ID: r.ID.String(), Store: r.Store.String(), By: r.By, Created: r.Created.UTC(), Expires: r.Expires.UTC(),
		Public: base64.StdEncoding.EncodeToString(r.Public), Identity: base64.StdEncoding.EncodeToString(r.Identity),
	}
	t.User, t.UserHex = names(r.User)
	for _, s := range r.Slots {
		t.Slots = append(t.Slots, slotText{s.ID.String(), s.Recipient, base64.StdEncoding.EncodeToString(s.Wrapped)})
	}
	return marshal(t)
}

// ParseRequest reads what Encode wrote. Errors: ErrKind, ErrTruncated, ErrDamaged.
func ParseRequest(b []byte) (*Request, error) {
	body, err := unarmour(kindRequest, b)
	if err != nil {
		return nil, err
	}
	var t requestText
	if err := decode(body, &t); err != nil {
		return nil, err
	}
	var f fields
	r := &Request{User: f.user(t.User, t.UserHex), By: f.text("by", t.By, 128), Created: t.Created.UTC(), Expires: t.Expires.UTC()}
	f.hex("id", t.ID, r.ID[:])
	f.hex("store", t.Store, r.Store[:])
	r.Public = f.base64("public", t.Public, slot.PublicSize, slot.PublicSize)
	r.Identity = f.base64("identity", t.Identity, slot.PublicSize, slot.PublicSize)
	if len(t.Slots) < 1 || len(t.Slots) > maxSlots {
		f.fail("it has %d slots", len(t.Slots))
	}
	for _, s := range t.Slots {
		x := Slot{Recipient: f.text("recipient", s.Recipient, 4096), Wrapped: f.base64("wrapped", s.Wrapped, 1, MaxWrapped)}
		f.hex("slot id", s.ID, x.ID[:])
		r.Slots = append(r.Slots, x)
	}
	return r, f.err
}

// Fingerprint is 80 bits of a hash of the request, for people to compare on both machines.
func (r *Request) Fingerprint() (string, error) {
	body, err := r.body()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(body)
	digits := strings.ToUpper(hex.EncodeToString(sum[:10]))
	var groups []string
	for len(digits) > 0 {
		groups, digits = append(groups, digits[:4]), digits[4:]
	}
	return strings.Join(groups, "-"), nil
}

// Answer is the identity of the user, sealed for the request.
type Answer struct {
	Request ID
	Store   StoreID
	User    account.User
	Created time.Time
	Sealed  []byte
}

// Approve opens one of the slots with the recovery keys and answers the request. Whoever calls it has compared the
// Fingerprint. Errors: ErrExpired, ErrNoMatch, slot.ErrWrongSecret and slot.ErrForeign (the request was put together from
// records that do not belong together), secret.ErrMemory.
func Approve(r *Request, ids []age.Identity, now time.Time) (*Answer, error) {
	if now.After(r.Expires) {
		return nil, ErrExpired
	}
	to, err := slot.ParsePublic(r.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	err = ErrNoMatch
	for _, s := range r.Slots {
		var identity *slot.Identity
		identity, openErr := Unwrap(s.Wrapped, ids, slot.Place{User: r.User, Kind: slot.KindRecovery, Slot: s.ID}, r.Identity)
		if openErr != nil {
			if !errors.Is(openErr, ErrNoMatch) {
				err = openErr
			}
			continue
		}
		defer identity.Wipe()
		sealed, err := identity.SealTo(to, answerInfo(r.ID, r.Store, r.User))
		if err != nil {
			return nil, err
		}
		return &Answer{Request: r.ID, Store: r.Store, User: r.User, Created: now.UTC().Truncate(time.Second), Sealed: sealed}, nil
	}
	return nil, err
}

func answerInfo(id ID, store StoreID, u account.User) []byte {
	return []byte(answerLabel + string(id[:]) + string(store[:]) + string(u))
}

// Wipe zeroes the private half.
func (p *Pending) Wipe() {
	if p.pair != nil {
		p.pair.Wipe()
	}
}

// Spend marks the request as used: what Encode returns then has no private half any more, and Apply refuses.
func (p *Pending) Spend(now time.Time) {
	p.Wipe()
	p.pair, p.Used = nil, now.UTC().Truncate(time.Second)
}

// Apply opens an answer and returns the identity, which the caller wipes. It does not Spend the request: what the identity
// is wanted for may still fail. Errors: ErrReplayed, ErrExpired, ErrOtherRequest, ErrForeign, secret.ErrMemory.
func (p *Pending) Apply(a *Answer, now time.Time) (*slot.Identity, error) {
	switch {
	case a.Request != p.ID:
		return nil, ErrOtherRequest
	case p.pair == nil:
		return nil, ErrReplayed
	case now.After(p.Expires):
		return nil, ErrExpired
	case a.Store != p.Store || a.User != p.User:
		return nil, ErrForeign
	}
	identity, err := p.pair.OpenSealed(a.Sealed, answerInfo(p.ID, p.Store, p.User), p.Identity)
	if errors.Is(err, slot.ErrSealed) || errors.Is(err, slot.ErrForeign) {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if errors.Is(err, secret.ErrWiped) {
		return nil, fmt.Errorf("%w: %w", ErrReplayed, err)
	}
	return identity, err
}
