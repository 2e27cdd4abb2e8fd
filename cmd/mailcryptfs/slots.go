package main

import (
	"bytes"
	"context"
	"slices"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/code"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// Who did something, for key records and the audit log.
const (
	byChange = "mailcryptfs passwd"
	bySlot   = "mailcryptfs slot"
	byRotate = "mailcryptfs rotate"
	byForget = "mailcryptfs forget"
	byDrill  = "mailcryptfs recovery drill"
)

// slotRing is what keyring.Ring and keyring.Offline have in common.
type slotRing interface {
	ChangePassword(ctx context.Context, u account.User, old, new []byte, by string) error
	Recover(ctx context.Context, u account.User, p keyring.Proof, password []byte, by string) error
	Slots(u account.User) ([]keyring.SlotInfo, error)
	AddPassword(ctx context.Context, u account.User, p keyring.Proof, password []byte, label, by string) (slot.ID, error)
	AddCode(ctx context.Context, u account.User, p keyring.Proof, label, by string) (code.Code, slot.ID, error)
	Revoke(ctx context.Context, u account.User, id slot.ID, force bool, by string) error
	Rotate(ctx context.Context, u account.User, identity bool, by string) error
	Rotation(u account.User) (keyring.Rotation, bool, error)
	Forget(ctx context.Context, u account.User, by string) (keyring.Forgotten, error)
	Users() ([]account.User, error)
}

var (
	_ slotRing = (*keyring.Ring)(nil)
	_ slotRing = (*keyring.Offline)(nil)
)

// slotKeeper changes users' keys, in the daemon and in verbs that work without one. Errors are those of the control
// protocol.
type slotKeeper struct {
	slots      slotRing
	recipients func() []recovery.Recipient // that are configured
}

// peered hands the peer of a request on to the ring, for the audit log.
func peered(ctx context.Context) context.Context {
	if peer := control.PeerOf(ctx); peer != "" {
		return keyring.WithPeer(ctx, peer)
	}
	return ctx
}

// proofOf turns what a caller shows into what the ring takes.
func proofOf(p control.Proof) (keyring.Proof, error) {
	if len(p.Key) == 0 {
		return keyring.Proof{Password: p.Password, Code: p.Code}, nil
	}
	ids, err := recovery.ReadIdentities(bytes.NewReader(p.Key))
	return keyring.Proof{Identities: ids}, translate(err)
}

// Passwd implements control.Slots.
func (k *slotKeeper) Passwd(ctx context.Context, user string, p control.Proof, new []byte) error {
	defer p.Wipe()
	u, ctx := account.User(user), peered(ctx)
	if len(p.Password) > 0 {
		return translate(k.slots.ChangePassword(ctx, u, p.Password, new, byChange))
	}
	proof, err := proofOf(p)
	if err != nil {
		return err
	}
	return translate(k.slots.Recover(ctx, u, proof, new, byRecover))
}

// Slots implements control.Slots.
func (k *slotKeeper) Slots(_ context.Context, user string) ([]control.Slot, error) {
	infos, err := k.slots.Slots(account.User(user))
	all := make([]control.Slot, len(infos))
	for i, s := range infos {
		all[i] = control.Slot{
			ID: s.ID.String(), Kind: string(s.Kind), Label: s.Label, Created: s.Created, By: s.By, Used: known(s.Used), Recipient: s.Recipient,
		}
	}
	return all, translate(err)
}

// AddSlot implements control.Slots.
func (k *slotKeeper) AddSlot(ctx context.Context, user string, p control.Proof, r control.NewSlot) (control.AddedSlot, error) {
	defer p.Wipe()
	u, ctx := account.User(user), peered(ctx)
	proof, err := proofOf(p)
	if err != nil {
		return control.AddedSlot{}, err
	}
	if len(r.Password) > 0 {
		id, err := k.slots.AddPassword(ctx, u, proof, r.Password, r.Label, bySlot)
		return control.AddedSlot{ID: id.String()}, translate(err)
	}
	c, id, err := k.slots.AddCode(ctx, u, proof, r.Label, bySlot)
	if err != nil {
		return control.AddedSlot{}, translate(err)
	}
	defer c.Wipe()
	text, err := c.Text()
	return control.AddedSlot{ID: id.String(), Code: text}, translate(err)
}

// RevokeSlot implements control.Slots.
func (k *slotKeeper) RevokeSlot(ctx context.Context, user, id string, force bool) error {
	parsed, err := slot.ParseID(id)
	if err != nil {
		return &control.Error{Code: control.CodeNoSlot, Message: "there is no slot " + id}
	}
	return translate(k.slots.Revoke(peered(ctx), account.User(user), parsed, force, bySlot))
}

// Rotate implements control.Slots.
func (k *slotKeeper) Rotate(ctx context.Context, user string, identity bool) (control.Rotation, error) {
	u := account.User(user)
	if err := k.slots.Rotate(peered(ctx), u, identity, byRotate); err != nil {
		return control.Rotation{}, translate(err)
	}
	r, _, err := k.slots.Rotation(u)
	return *rotationOf(r), translate(err)
}

func rotationOf(r keyring.Rotation) *control.Rotation {
	return &control.Rotation{Started: r.Started, By: r.By, Identity: r.Identity, Pending: r.Pending, Keys: r.Keys}
}

// Forget implements control.Slots.
func (k *slotKeeper) Forget(ctx context.Context, user string) (control.Forgotten, error) {
	f, err := k.slots.Forget(peered(ctx), account.User(user), byForget)
	return control.Forgotten{
		User: user, Time: f.Time, By: f.By, Slots: f.Slots, ContentKeys: f.ContentKeys, DeliveryKeys: f.Deliveries,
	}, translate(err)
}

// Survey implements control.Slots.
func (k *slotKeeper) Survey(ctx context.Context) ([]control.Survey, error) {
	users, problem := k.slots.Users()
	all := make([]control.Survey, len(users))
	for i, u := range users {
		if err := ctx.Err(); err != nil {
			return nil, translate(err)
		}
		all[i] = k.survey(u)
	}
	if len(users) == 0 {
		return nil, translate(problem)
	}
	return all, nil // a stray entry of the user directory is the business of verify
}

// survey says what opens the mail of a user who lost the passwords.
func (k *slotKeeper) survey(u account.User) control.Survey {
	s := control.Survey{User: string(u)}
	slots, err := k.slots.Slots(u)
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	want := k.recipients()
	for _, sl := range slots {
		switch sl.Kind {
		case slot.KindCode:
			s.Codes++
		case slot.KindRecovery:
			if slices.ContainsFunc(want, func(r recovery.Recipient) bool { return r.String() == sl.Recipient }) {
				s.Keys++
			} else {
				s.Retired++
			}
		}
	}
	for _, r := range want {
		if !slices.ContainsFunc(slots, func(sl keyring.SlotInfo) bool { return sl.Recipient == r.String() }) {
			s.Missing = append(s.Missing, shorten(r.String()))
		}
	}
	s.NoWay = s.Codes+s.Keys+s.Retired == 0
	r, rotating, err := k.slots.Rotation(u)
	switch {
	case err != nil:
		s.Problem = err.Error()
	case rotating:
		s.Rotation = rotationOf(r)
	}
	return s
}
