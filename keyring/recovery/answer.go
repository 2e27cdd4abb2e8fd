package recovery

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

type answerText struct {
	Version int       `toml:"version"`
	Request string    `toml:"request"`
	Store   string    `toml:"store"`
	User    string    `toml:"user,omitempty"`
	UserHex string    `toml:"user_hex,omitempty"`
	Created time.Time `toml:"created"`
	Sealed  string    `toml:"sealed"`
}

// Encode returns the answer as text.
func (a *Answer) Encode() ([]byte, error) {
	t := answerText{
		Version: version, Request: a.Request.String(), Store: a.Store.String(), Created: a.Created.UTC(),
		Sealed: base64.StdEncoding.EncodeToString(a.Sealed),
	}
	t.User, t.UserHex = names(a.User)
	body, err := marshal(t)
	if err != nil {
		return nil, err
	}
	return armour(kindAnswer, body), nil
}

// ParseAnswer reads what Encode wrote. Errors: ErrKind, ErrTruncated, ErrDamaged.
func ParseAnswer(b []byte) (*Answer, error) {
	body, err := unarmour(kindAnswer, b)
	if err != nil {
		return nil, err
	}
	var t answerText
	if err := decode(body, &t); err != nil {
		return nil, err
	}
	var f fields
	a := &Answer{User: f.user(t.User, t.UserHex), Created: t.Created.UTC(), Sealed: f.base64("sealed", t.Sealed, slot.SealedSize, slot.SealedSize)}
	f.hex("request", t.Request, a.Request[:])
	f.hex("store", t.Store, a.Store[:])
	return a, f.err
}

type pendingText struct {
	Version  int       `toml:"version"`
	ID       string    `toml:"id"`
	Store    string    `toml:"store"`
	User     string    `toml:"user,omitempty"`
	UserHex  string    `toml:"user_hex,omitempty"`
	Created  time.Time `toml:"created"`
	Expires  time.Time `toml:"expires"`
	Used     time.Time `toml:"used,omitempty"`
	Public   string    `toml:"public"`
	Identity string    `toml:"identity"`
}

// Encode returns the pending request as text with the private half in it, for a file that root alone can read; the caller
// wipes it. Error: secret.ErrWiped after Wipe, but not after Spend.
func (p *Pending) Encode() ([]byte, error) {
	t := pendingText{
		Version: version, ID: p.ID.String(), Store: p.Store.String(), Created: p.Created.UTC(), Expires: p.Expires.UTC(), Used: p.Used.UTC(),
		Public: base64.StdEncoding.EncodeToString(p.public), Identity: base64.StdEncoding.EncodeToString(p.Identity),
	}
	t.User, t.UserHex = names(p.User)
	if p.Used.IsZero() {
		t.Used = time.Time{}
	}
	head, err := marshal(t)
	if err != nil {
		return nil, err
	}
	// The secret line is not left to the encoder, which would make a string of it.
	body := make([]byte, 0, len(head)+100)
	body = append(body, head...)
	if p.pair != nil {
		err = p.pair.Use(func(seed []byte) error {
			body = append(body, "seed = \""...)
			body = hex.AppendEncode(body, seed)
			body = append(body, "\"\n"...)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("cannot encode a pending request: %w", err)
		}
	}
	return armour(kindPending, body), nil
}

// seedLine is how the last line of an unused pending request begins.
const seedLine = "seed = \""

// ParsePending reads what Encode wrote; b stays the caller's to wipe, the result is wiped by the caller. Errors: ErrKind,
// ErrTruncated, ErrDamaged, secret.ErrMemory.
func ParsePending(b []byte) (*Pending, error) {
	body, err := unarmour(kindPending, b)
	defer secret.Wipe(body)
	if err != nil {
		return nil, err
	}
	var seed []byte
	const tail = len(seedLine) + 2*secret.Size + len("\"\n")
	if at := len(body) - tail; at >= 0 && string(body[at:at+len(seedLine)]) == seedLine {
		seed = make([]byte, secret.Size)
		if _, err := hex.Decode(seed, body[at+len(seedLine):at+len(seedLine)+2*secret.Size]); err != nil {
			return nil, ErrDamaged
		}
		defer secret.Wipe(seed)
		secret.Wipe(body[at:])
		body = body[:at]
	}
	var t pendingText
	if err := decode(body, &t); err != nil {
		return nil, err
	}
	var f fields
	p := &Pending{User: f.user(t.User, t.UserHex), Created: t.Created.UTC(), Expires: t.Expires.UTC(), Used: t.Used.UTC()}
	f.hex("id", t.ID, p.ID[:])
	f.hex("store", t.Store, p.Store[:])
	p.public = f.base64("public", t.Public, slot.PublicSize, slot.PublicSize)
	p.Identity = f.base64("identity", t.Identity, slot.PublicSize, slot.PublicSize)
	if (seed == nil) == p.Used.IsZero() {
		f.fail("it is neither open nor used")
	}
	if f.err != nil || seed == nil {
		return p, f.err
	}
	p.pair, err = slot.FromSeed(seed, p.public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return p, nil
}
