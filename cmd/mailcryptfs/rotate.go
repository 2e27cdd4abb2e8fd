package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

// rotate is one run of the verb.
type rotate struct {
	*app
	site                *siteFlags
	all, identity, wait bool
}

func newRotate(a *app) *cobra.Command {
	v := &rotate{app: a}
	c := &cobra.Command{
		Use:   "rotate USER | --all",
		Short: "Give a user new keys and encrypt the mail again",
		Long: `Gives a user a new content key at once: whatever is written from now on is encrypted with it. The daemon
then encrypts the stored mail again while the user is unlocked, and destroys the old keys when nothing
needs them any more. It can be interrupted at any moment and goes on by itself; mailcryptfs status
shows how far it is.

With --identity, the user gets a new key pair, too, and all slots are made anew for it. Nobody has to
type a secret again. Use it when somebody might have opened the old key: after a revoked slot, a
retired recovery key, or a stolen machine. It happens at the user's next unlock, or at once if the user
is unlocked.

What somebody has copied before, store and secret together, stays readable to him.`,
		Example: `  mailcryptfs rotate alice@example.org --wait
  mailcryptfs rotate --all --identity`,
		Annotations: exits("64  wrong arguments", "67  the user is not enrolled", "74  a key record could not be written, or files could not be encrypted",
			"75  it goes on: the user has to log in, or files are in use", "77  not root", "78  the configuration cannot work"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if v.all {
			return noArgs(c, args)
		}
		return oneUser(c, args)
	}
	v.site = newSiteFlags(c)
	f := c.Flags()
	f.BoolVar(&v.all, "all", false, "every enrolled user")
	f.BoolVar(&v.identity, "identity", false, "a new key pair, too")
	f.BoolVar(&v.wait, "wait", false, "wait until the old keys are destroyed, and show progress on a terminal")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.withHolder(c, v.site, func(h *holder) error { return v.run(c.Context(), h, args) })
	}
	return c
}

func (v *rotate) run(ctx context.Context, h *holder, users []string) error {
	if v.all {
		all, err := h.Survey(ctx)
		if err != nil {
			return explain("", err)
		}
		for _, s := range all {
			users = append(users, s.User)
		}
		if len(users) == 0 {
			return v.printf("nobody is enrolled\n")
		}
	}
	var errs []error
	for _, u := range users {
		errs = append(errs, v.one(ctx, h, u))
	}
	return errors.Join(errs...)
}

// one rotates the keys of one user. With --all others follow, whatever comes of it.
func (v *rotate) one(ctx context.Context, h *holder, user string) error {
	r, err := h.Rotate(control.OwnPeer(ctx), user, v.identity)
	if err != nil {
		return explain(user, err)
	}
	if !v.wait || h.client == nil {
		return v.printf("%s: %s; see mailcryptfs status --user %s\n", ui.Safe(user), rotationText(&r), ui.Quote(user))
	}
	return v.follow(ctx, h.client, user)
}

// follow waits for the end of a rotation: that is when a conversion has ended and the old keys are gone.
func (v *rotate) follow(ctx context.Context, client *control.Client, user string) error {
	bar := newBar(v.app, user, true)
	p, err := client.Convert(ctx, user, control.ConvertRequest{Goal: control.GoalEncrypt, Wait: true}, bar.show)
	bar.end()
	if err != nil {
		return explain(user, err)
	}
	st, err := client.Status(ctx, user)
	if err != nil {
		return explain(user, err)
	}
	if st.Recovery == nil || st.Recovery.Rotation == nil {
		return v.printf("%s: %d entries were encrypted again, and the old keys are destroyed\n", ui.Safe(user), p.Done)
	}
	code := ui.ExitTempFail
	if p.Failed > 0 {
		code = ui.ExitIOErr
	}
	return ui.Failf(code, "mailcryptfs status --user "+ui.Quote(user), "%s: %s%s", ui.Safe(user), rotationText(st.Recovery.Rotation), rest(p))
}

// rotationText says in one line how far a rotation is.
func rotationText(r *control.Rotation) string {
	text := fmt.Sprintf("new keys since %s, %d old ones are left", since(&r.Started), r.Keys)
	if r.Pending {
		text += ", and the identity"
	}
	if r.Need != "" {
		text += "; " + r.Need
	}
	return text
}
