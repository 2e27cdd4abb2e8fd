package keyring

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Labels of slots that the program makes by itself.
const (
	firstLabel    = "login password"
	recoveryLabel = "recovery key"
)

// byConfiguration is who made slots of recovery keys.
const byConfiguration = "configuration"

// maxText is how long labels and names of who did something may be, in bytes (FORMAT.md K10).
const maxText = 128

// Errors of changes of slots.
var (
	// ErrNoSlot says that the user has no slot of that id.
	ErrNoSlot = errors.New("no such slot")
	// ErrLastSlot says that without this slot nothing opens the user's mail any more.
	ErrLastSlot = errors.New("it is the last slot: without it the user's mail is lost for ever")
	// ErrLabel says that a label is not UTF-8, or longer than 128 bytes.
	ErrLabel = errors.New("a label is UTF-8 of at most 128 bytes")
	// ErrTooManySlots says that the record has no place for another slot (FORMAT.md K10).
	ErrTooManySlots = errors.New("the user has 64 slots, the most that are allowed: revoke one first")
	// ErrNoRecovery says that the user has no slot that a recovery key opens.
	ErrNoRecovery = errors.New("the user has no slot for a recovery key")
	// ErrUnknownSlot says that a slot of a kind that this program does not know is in the way.
	ErrUnknownSlot = errors.New("a slot of an unknown kind cannot be made anew")
)

// SlotInfo is what is told of one slot.
type SlotInfo struct {
	ID        slot.ID   `json:"id"`
	Kind      slot.Kind `json:"kind"`
	Label     string    `json:"label"`
	Created   time.Time `json:"created"`
	By        string    `json:"by"`                  // who made it
	Used      time.Time `json:"used,omitzero"`       // when it opened something last, to within a day; zero if not known
	Recipient string    `json:"recipient,omitempty"` // of a slot of kind recovery
}

// checkText refuses what a record cannot hold.
func checkText(texts ...string) error {
	for _, s := range texts {
		if len(s) > maxText || !utf8.ValidString(s) {
			return ErrLabel
		}
	}
	return nil
}

// begin is a new slot but for what wraps the identity.
func (e *editor) begin(kind slot.Kind, label, by string) records.Slot {
	return records.Slot{ID: slot.RandomID(), Kind: kind, Label: label, Created: e.second(), CreatedBy: by}
}

// passwordSlot makes a slot that the entry opens.
func (e *editor) passwordSlot(rec *records.User, identity *slot.Identity, entry slot.Entry, label, by string) (records.Slot, error) {
	s := e.begin(slot.KindPassword, label, by)
	err := sealPassword(rec, &s, identity, entry)
	return s, err
}

// sealPassword wraps the identity for the slot so that the entry opens it.
func sealPassword(rec *records.User, s *records.Slot, identity *slot.Identity, entry slot.Entry) error {
	seed, err := slot.PasswordSeed(entry.Hash, s.ID)
	if err != nil {
		return err
	}
	s.Params = entry.Params
	return seal(rec, s, identity, seed)
}

// codeSlot makes a slot that the code opens.
func (e *editor) codeSlot(rec *records.User, identity *slot.Identity, c code.Code, label, by string) (records.Slot, error) {
	s := e.begin(slot.KindCode, label, by)
	seed, err := c.Seed(place(rec, &s))
	if err != nil {
		return records.Slot{}, err
	}
	err = seal(rec, &s, identity, seed)
	return s, err
}

// seal wraps the identity for the slot that seed opens, and wipes seed.
func seal(rec *records.User, s *records.Slot, identity *slot.Identity, seed *secret.Key) error {
	defer seed.Wipe()
	public, err := slot.PublicOf(seed)
	if err != nil {
		return err
	}
	s.Public = public.Bytes()
	s.Wrapped, err = slot.Wrap(identity, public, place(rec, s))
	return err
}

// reseal makes the slot anew for an identity, without its secret: that is what its public half is for.
func reseal(rec *records.User, s *records.Slot, identity *slot.Identity) error {
	var err error
	switch {
	case !s.Known():
		return fmt.Errorf("%w: slot %s of kind %q", ErrUnknownSlot, s.ID, s.Kind)
	case s.Kind == slot.KindRecovery:
		var to recovery.Recipient
		if to, err = recovery.ParseRecipient(s.Recipient); err == nil {
			s.Wrapped, err = recovery.Wrap(identity, to, place(rec, s))
		}
	default:
		var public *slot.Public
		if public, err = slot.ParsePublic(s.Public); err == nil {
			s.Wrapped, err = slot.Wrap(identity, public, place(rec, s))
		}
	}
	if err != nil {
		return fmt.Errorf("slot %s: %w", s.ID, err)
	}
	return nil
}

// addSlot puts a slot into the record.
func addSlot(rec *records.User, s records.Slot) error {
	if len(rec.Slots) >= records.MaxSlots {
		return ErrTooManySlots
	}
	rec.Slots = append(rec.Slots, s)
	return nil
}

// revoke takes a slot out of the record and returns it.
func revoke(rec *records.User, id slot.ID, force bool) (records.Slot, error) {
	i := slices.IndexFunc(rec.Slots, func(s records.Slot) bool { return s.ID == id })
	if i < 0 {
		return records.Slot{}, ErrNoSlot
	}
	left := 0
	for j := range rec.Slots {
		if j != i && rec.Slots[j].Known() {
			left++
		}
	}
	if left == 0 && !force {
		return records.Slot{}, ErrLastSlot
	}
	s := rec.Slots[i]
	rec.Slots = slices.Delete(rec.Slots, i, i+1)
	return s, nil
}

// loginSlot returns the index of the slot that the login password opens: the one that is labelled so, or the oldest of
// its kind; -1 if there is none.
func loginSlot(rec *records.User) int {
	oldest := -1
	for i := range rec.Slots {
		s := &rec.Slots[i]
		if s.Kind != slot.KindPassword {
			continue
		}
		if s.Label == firstLabel {
			return i
		}
		if oldest < 0 || s.Created.Before(rec.Slots[oldest].Created) {
			oldest = i
		}
	}
	return oldest
}

// setLogin replaces the slot of the login password by one that the entry opens.
func (e *editor) setLogin(rec *records.User, identity *slot.Identity, entry slot.Entry, by string) error {
	i := loginSlot(rec)
	if i < 0 {
		s, err := e.passwordSlot(rec, identity, entry, firstLabel, by)
		if err != nil {
			return err
		}
		return addSlot(rec, s)
	}
	s, err := e.passwordSlot(rec, identity, entry, rec.Slots[i].Label, by)
	rec.Slots[i] = s
	return err
}

// slotChanges are slots that came and went.
type slotChanges struct{ added, removed []records.Slot }

func (c slotChanges) none() bool { return len(c.added)+len(c.removed) == 0 }

// recoverySlots brings the slots of recovery keys in line with the configured recipients, and tells what it did. Without
// any recipient nothing is taken away: an empty configuration is more often a mistake than a wish.
func (e *editor) recoverySlots(rec *records.User, identity *slot.Identity) (slotChanges, error) {
	var c slotChanges
	want := e.configured()
	if len(want) == 0 {
		return c, nil
	}
	for _, r := range want {
		if hasRecipient(rec, r.String()) {
			continue
		}
		s := e.begin(slot.KindRecovery, recoveryLabel, byConfiguration)
		s.Recipient = r.String()
		var err error
		if s.Wrapped, err = recovery.Wrap(identity, r, place(rec, &s)); err != nil {
			return c, err
		}
		if err := addSlot(rec, s); err != nil {
			return c, err
		}
		c.added = append(c.added, s)
	}
	var kept []records.Slot
	for _, s := range rec.Slots {
		if s.Kind == slot.KindRecovery && !slices.ContainsFunc(want, func(r recovery.Recipient) bool { return r.String() == s.Recipient }) {
			c.removed = append(c.removed, s)
		} else {
			kept = append(kept, s)
		}
	}
	rec.Slots = kept
	return c, nil
}

func hasRecipient(rec *records.User, recipient string) bool {
	return slices.ContainsFunc(rec.Slots, func(s records.Slot) bool {
		return s.Kind == slot.KindRecovery && s.Recipient == recipient
	})
}

// missing lists the configured recipients for which the record has no slot.
func (e *editor) missing(rec *records.User) []string {
	var list []string
	for _, r := range e.configured() {
		if !hasRecipient(rec, r.String()) {
			list = append(list, r.String())
		}
	}
	return list
}

// inLine tells whether recoverySlots would have nothing to do.
func (e *editor) inLine(rec *records.User) bool {
	want := e.configured()
	if len(want) == 0 {
		return true
	}
	n := 0
	for i := range rec.Slots {
		if rec.Slots[i].Kind == slot.KindRecovery {
			n++
		}
	}
	return n == len(want) && len(e.missing(rec)) == 0
}

// update changes the record of the user under its lock. Error: secret.ErrNotEnrolled, that of change, and what is wrong
// with record or disk: then the record is as before.
func (e *editor) update(u account.User, change func(rec *records.User) error) error {
	home, err := e.records.Lock(u, false)
	if err != nil {
		return notEnrolled(err)
	}
	defer home.Release()
	return notEnrolled(home.Update(change))
}
