package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// keyholder is who changes users' keys for a verb: the daemon, or without one this process in the store itself.
type keyholder interface {
	Passwd(ctx context.Context, user string, p control.Proof, new []byte) error
	Slots(ctx context.Context, user string) ([]control.Slot, error)
	AddSlot(ctx context.Context, user string, p control.Proof, r control.NewSlot) (control.AddedSlot, error)
	RevokeSlot(ctx context.Context, user, id string, force bool) error
	Rotate(ctx context.Context, user string, identity bool) (control.Rotation, error)
	Forget(ctx context.Context, user string) (control.Forgotten, error)
	Survey(ctx context.Context) ([]control.Survey, error)
}

var (
	_ keyholder = (*control.Client)(nil)
	_ keyholder = (*slotKeeper)(nil)
)

// holder is the keyholder of one run of a verb.
type holder struct {
	keyholder
	client  *control.Client // nil without a daemon
	offline *keysAtRest     // nil with a daemon
	close   func()
}

// withHolder runs f with the daemon, or without one in the store itself.
func (a *app) withHolder(c *cobra.Command, s *siteFlags, f func(*holder) error) error {
	conf, err := a.config()
	if err != nil {
		return err
	}
	h, err := a.holder(c.Context(), conf, s)
	if err != nil {
		return err
	}
	defer h.close()
	return f(h)
}

func (a *app) holder(ctx context.Context, conf config.Config, s *siteFlags) (*holder, error) {
	return a.holderWith(ctx, conf, func() ([]byte, error) { return s.read(ctx, conf) })
}

// holderWith calls site for the 32 bytes of the site secret if no daemon answers.
func (a *app) holderWith(ctx context.Context, conf config.Config, site func() ([]byte, error)) (*holder, error) {
	client := control.NewClient(conf.Control)
	err := client.Ping(ctx)
	if err == nil {
		return &holder{keyholder: client, client: client, close: func() {}}, nil
	}
	if !errors.Is(err, control.ErrNoDaemon) {
		return nil, explain("", err)
	}
	a.warn("no daemon answers: working on the key records in %s", conf.Store)
	return a.offlineHolder(conf, site)
}

func (a *app) offlineHolder(conf config.Config, site func() ([]byte, error)) (*holder, error) {
	if err := mustBeRoot("change key records without the daemon"); err != nil {
		return nil, err
	}
	b, err := site()
	if err != nil {
		return nil, err
	}
	o, err := a.openOffline(conf, b)
	if err != nil {
		return nil, err
	}
	return &holder{keyholder: &o.slotKeeper, offline: o, close: o.close}, nil
}

// enrolled makes sure that the user has a key, before anybody types a secret in vain. unlocked tells whether he needs to
// show one.
func (h *holder) enrolled(ctx context.Context, user string) (unlocked bool, err error) {
	if h.client == nil {
		_, err := h.Slots(ctx, user)
		return false, explain(user, err)
	}
	st, err := h.client.Status(ctx, user)
	if err == nil && !st.Enrolled {
		err = &control.Error{Code: control.CodeNotEnrolled, Message: secret.ErrNotEnrolled.Error()}
	}
	return st.Unlocked, explain(user, err)
}

// refresh tells a daemon, if one runs, that it has to look at the user's record again.
func (a *app) refresh(ctx context.Context, conf config.Config, u account.User) {
	err := control.NewClient(conf.Control).Refresh(ctx, string(u))
	if err != nil && !errors.Is(err, control.ErrNoDaemon) {
		a.warn("the daemon did not take notice: it will at the next login (%v)", err)
	}
}
