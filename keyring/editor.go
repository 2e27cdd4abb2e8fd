package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// editor changes key records: what a Ring and an Offline have in common. It knows nothing of who is unlocked.
type editor struct {
	site    *site.Keys
	records *records.Dir
	derive  chan struct{} // one token per Argon2id run
	params  slot.Params   // of new slots
	now     func() time.Time
	log     *slog.Logger
	tell    func(audit.Event) // nil: nobody

	list       sync.Mutex
	recipients []recovery.Recipient // guarded by list; never changed in place
}

func newEditor(o *Options, d *records.Dir) *editor {
	return &editor{
		site: o.Site, records: d, derive: make(chan struct{}, o.MaxDerivations), params: o.Params,
		now: o.Now, log: o.Log, tell: o.Audit, recipients: distinct(o.Recipients),
	}
}

// second is the time that records are given.
func (e *editor) second() time.Time { return e.now().UTC().Truncate(time.Second) }

func (e *editor) configured() []recovery.Recipient {
	e.list.Lock()
	defer e.list.Unlock()
	return e.recipients
}

func (e *editor) configure(list []recovery.Recipient) {
	e.list.Lock()
	defer e.list.Unlock()
	e.recipients = distinct(list)
}

func distinct(list []recovery.Recipient) []recovery.Recipient {
	var out []recovery.Recipient
	for _, r := range list {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

type peerKey struct{}

// WithPeer returns a context with which methods of Ring and Offline tell the audit log where their caller came from: a
// service, or the address of a client.
func WithPeer(ctx context.Context, peer string) context.Context {
	return context.WithValue(ctx, peerKey{}, peer)
}

// event tells the audit log.
func (e *editor) event(ctx context.Context, ev audit.Event) {
	if e.tell == nil {
		return
	}
	ev.Time = e.now()
	if peer, ok := ctx.Value(peerKey{}).(string); ok {
		ev.Peer = peer
	}
	e.tell(ev)
}

// hash derives the entry of a password that the user shall have from now on.
func (e *editor) hash(ctx context.Context, rec *records.User, password []byte) (slot.Entry, error) {
	if len(password) == 0 {
		return slot.Entry{}, ErrPassword
	}
	return hashPassword(ctx, e.derive, rec, e.site, password, e.params)
}

// checkSalt makes sure that an entry that was derived before the record was locked is still the user's.
func (e *editor) checkSalt(rec *records.User, entry slot.Entry) error {
	salt, err := e.site.ArgonSalt(rec.Salt[:])
	if err != nil {
		return err
	}
	if !bytes.Equal(salt, entry.Salt[:]) {
		return errors.New("the record was replaced meanwhile")
	}
	return nil
}

// open opens the identity by the proof and lets change work on the record, under its lock.
func (e *editor) open(ctx context.Context, u account.User, p *Proof, held *slot.Identity, change func(*records.User, *slot.Identity, *records.Slot) error) error {
	loaded, err := e.records.Read(u)
	if err != nil {
		return notEnrolled(err)
	}
	key, err := e.opener(ctx, loaded.User, p, held)
	if err != nil {
		return err
	}
	defer key.wipe()
	var used *records.Slot
	var changed *records.User
	err = e.update(u, func(rec *records.User) error {
		identity, by, err := key.open(rec)
		if err != nil {
			return err
		}
		defer identity.Wipe()
		if by != nil {
			used = new(*by)
		}
		changed = rec
		return change(rec, identity, by)
	})
	if err == nil && used != nil {
		e.used(changed, used.ID)
	}
	return err
}

// addPassword is AddPassword for an identity that is held, nil for none.
func (e *editor) addPassword(ctx context.Context, u account.User, p *Proof, held *slot.Identity, password []byte, label, by string) (slot.ID, error) {
	defer p.wipe()
	defer secret.Wipe(password)
	if err := checkText(label, by); err != nil {
		return slot.ID{}, err
	}
	loaded, err := e.records.Read(u)
	if err != nil {
		return slot.ID{}, notEnrolled(err)
	}
	entry, err := e.hash(ctx, loaded.User, password)
	if err != nil {
		return slot.ID{}, err
	}
	defer entry.Hash.Wipe()
	var added records.Slot
	err = e.open(ctx, u, p, held, func(rec *records.User, identity *slot.Identity, _ *records.Slot) error {
		if err := e.checkSalt(rec, entry); err != nil {
			return err
		}
		var err error
		if added, err = e.passwordSlot(rec, identity, entry, label, by); err != nil {
			return err
		}
		return addSlot(rec, added)
	})
	if err != nil {
		return slot.ID{}, err
	}
	e.added(ctx, u, &added, p)
	return added.ID, nil
}

// addCode is AddCode for an identity that is held, nil for none.
func (e *editor) addCode(ctx context.Context, u account.User, p *Proof, held *slot.Identity, label, by string) (code.Code, slot.ID, error) {
	defer p.wipe()
	if err := checkText(label, by); err != nil {
		return code.Code{}, slot.ID{}, err
	}
	c, err := code.Generate()
	if err != nil {
		return code.Code{}, slot.ID{}, err
	}
	var added records.Slot
	err = e.open(ctx, u, p, held, func(rec *records.User, identity *slot.Identity, _ *records.Slot) error {
		var err error
		if added, err = e.codeSlot(rec, identity, c, label, by); err != nil {
			return err
		}
		return addSlot(rec, added)
	})
	if err != nil {
		c.Wipe()
		return code.Code{}, slot.ID{}, err
	}
	e.added(ctx, u, &added, p)
	return c, added.ID, nil
}

func (e *editor) added(ctx context.Context, u account.User, s *records.Slot, p *Proof) {
	e.log.Info("slot added", "user", string(u), "slot", slotName(s), "by", s.CreatedBy)
	e.event(ctx, audit.Event{User: u, What: audit.SlotAdd, Cause: p.cause(), By: s.CreatedBy, Detail: slotDetail(s)})
}

// revokeSlot is Revoke.
func (e *editor) revokeSlot(ctx context.Context, u account.User, id slot.ID, force bool, by string) error {
	if err := checkText(by); err != nil {
		return err
	}
	var gone records.Slot
	err := e.update(u, func(rec *records.User) error {
		var err error
		gone, err = revoke(rec, id, force)
		return err
	})
	if err != nil {
		return err
	}
	e.log.Info("slot revoked", "user", string(u), "slot", slotName(&gone), "by", by)
	e.event(ctx, audit.Event{User: u, What: audit.SlotRevoke, By: by, Detail: slotDetail(&gone)})
	return nil
}

// recover is Recover; it returns the entry by which the new password opens, whose hash the caller wipes.
func (e *editor) recover(ctx context.Context, u account.User, p *Proof, held *slot.Identity, password []byte, by string) (slot.Entry, error) {
	defer p.wipe()
	defer secret.Wipe(password)
	if err := checkText(by); err != nil {
		return slot.Entry{}, err
	}
	loaded, err := e.records.Read(u)
	if err != nil {
		return slot.Entry{}, notEnrolled(err)
	}
	entry, err := e.hash(ctx, loaded.User, password)
	if err != nil {
		return slot.Entry{}, err
	}
	detail := ""
	err = e.open(ctx, u, p, held, func(rec *records.User, identity *slot.Identity, opened *records.Slot) error {
		if err := e.checkSalt(rec, entry); err != nil {
			return err
		}
		if opened != nil {
			detail = "by " + slotDetail(opened)
		}
		return e.setLogin(rec, identity, entry, by)
	})
	if err != nil {
		entry.Hash.Wipe()
		return slot.Entry{}, err
	}
	e.log.Info("password set by recovery", "user", string(u), "cause", p.cause(), "by", by)
	e.event(ctx, audit.Event{User: u, What: audit.Recover, Cause: p.cause(), By: by, Detail: detail})
	return entry, nil
}

// slotDetail is what the audit log says of a slot.
func slotDetail(s *records.Slot) string { return fmt.Sprintf("slot %s: %s", s.ID, slotName(s)) }
