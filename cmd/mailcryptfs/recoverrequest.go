package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// byRecover is who used a recovery key, for key records and the audit log.
const byRecover = "mailcryptfs recover"

// maxCarried is the size of the largest request or answer that is read, in bytes.
const maxCarried = 1 << 20

// atRest opens the key records without asking a daemon.
func (v *recoverRun) atRest(ctx context.Context) (*keysAtRest, config.Config, error) {
	if err := mustBeRoot("use a recovery key"); err != nil {
		return nil, config.Config{}, err
	}
	c, err := v.settings(v.app)
	if err != nil {
		return nil, c, err
	}
	b, err := v.secret(ctx, v.app, c, nil)
	if err != nil {
		return nil, c, err
	}
	o, err := v.openOffline(c, b)
	return o, c, err
}

// runRequest writes a request for a recovery key elsewhere, and keeps here what opens the answer.
func (v *recoverRun) runRequest(ctx context.Context, user string) error {
	o, c, err := v.atRest(ctx)
	if err != nil {
		return err
	}
	defer o.close()
	r, pending, err := o.request(c.Store, account.User(user))
	if err != nil {
		return explain(user, translate(err))
	}
	defer pending.Wipe()
	text, err := r.Encode()
	if err != nil {
		return ui.Fail(ui.ExitSoftware, "", err)
	}
	fingerprint, err := r.Fingerprint()
	if err != nil {
		return ui.Fail(ui.ExitSoftware, "", err)
	}
	if err := v.keepPending(pending); err != nil {
		return err
	}
	v.dropExpired()
	if err := writeSecret(v.request, text); err != nil {
		return err
	}
	o.audit.Record(audit.Event{User: account.User(user), What: audit.RecoveryRequest, By: byRecover, Peer: control.PeerOf(control.OwnPeer(ctx)),
		Detail: fmt.Sprintf("request %s, fingerprint %s", r.ID, fingerprint)})
	return v.printf(`wrote the request %s
  fingerprint   %s
  valid until   %s
Carry it to the machine with the recovery key, and run there, after comparing the fingerprint:
  mailcryptfs recover --approve FILE --recovery-key KEY --answer ANSWER
Then, here: mailcryptfs recover %s --apply ANSWER
`, v.request, fingerprint, r.Expires.Local().Format("2006-01-02 15:04"), ui.Quote(user))
}

func (v *recoverRun) pendingPath(id recovery.ID) string {
	return filepath.Join(v.state, id.String()+".pending")
}

// keepPending writes the private half of a request where root alone can read it.
func (v *recoverRun) keepPending(p *recovery.Pending) error {
	if err := os.MkdirAll(v.state, 0o700); err != nil {
		return ui.Failf(ui.ExitCantCreate, "name another directory with --state", "cannot keep the request: %w", err)
	}
	text, err := p.Encode()
	if err != nil {
		return ui.Fail(ui.ExitSoftware, "", err)
	}
	return writeSecret(v.pendingPath(p.ID), text)
}

// dropExpired destroys what was kept of requests that can be answered no more. What cannot be read is left for people.
func (v *recoverRun) dropExpired() {
	files, _ := filepath.Glob(filepath.Join(v.state, "*.pending"))
	for _, path := range files {
		text, _, err := ui.ReadSecretFile(path, maxCarried)
		if err != nil {
			continue
		}
		p, err := recovery.ParsePending(text)
		secret.Wipe(text)
		if err != nil {
			continue
		}
		p.Wipe()
		if time.Now().After(p.Expires) {
			if err := errors.Join(overwrite(path), os.Remove(path)); err != nil {
				v.warn("cannot remove an expired request: %v", err)
			}
		}
	}
}

// runApprove answers a request, on the machine with the recovery key. It needs nothing else of the site.
func (v *recoverRun) runApprove() error {
	if v.proof.key == "" || v.answer == "" {
		return ui.Failf(ui.ExitUsage, "mailcryptfs recover --help", "--approve needs --recovery-key and --answer")
	}
	text, _, err := ui.ReadSecretFile(v.approve, maxCarried)
	if err != nil {
		return err
	}
	r, err := recovery.ParseRequest(text)
	if err != nil {
		return carried(v.approve, err)
	}
	fingerprint, err := r.Fingerprint()
	if err != nil {
		return ui.Fail(ui.ExitSoftware, "", err)
	}
	if err := v.confirm(r, fingerprint); err != nil {
		return err
	}
	ids, err := v.readIdentities(v.proof.key)
	if err != nil {
		return err
	}
	a, err := recovery.Approve(r, ids, time.Now())
	if err != nil {
		return carried(v.approve, err)
	}
	if text, err = a.Encode(); err != nil {
		return ui.Fail(ui.ExitSoftware, "", err)
	}
	if err := writeSecret(v.answer, text); err != nil {
		return err
	}
	return v.printf("wrote the answer %s: it is good for the request %s alone, until %s\n", v.answer, r.ID, r.Expires.Local().Format("2006-01-02 15:04"))
}

// confirm shows what is asked for.
func (v *recoverRun) confirm(r *recovery.Request, fingerprint string) error {
	_, err := fmt.Fprintf(v.err, "Request for the mail of %s\n  store         %s\n  asked by      %s, %s\n  fingerprint   %s\n",
		ui.Safe(string(r.User)), r.Store, ui.Safe(r.By), r.Created.Local().Format("2006-01-02 15:04"), fingerprint)
	if err != nil || v.yes {
		return err
	}
	typed, err := ui.Ask("Compare the fingerprint with the other machine. Type yes to let the asker read all mail of this user")
	if err == nil && typed != "yes" {
		err = ui.Failf(ui.ExitNoPerm, "", "the request was not approved")
	}
	return err
}

// runApply uses an answer: once, for the request that it answers.
func (v *recoverRun) runApply(ctx context.Context, user string) error {
	text, _, err := ui.ReadSecretFile(v.apply, maxCarried)
	if err != nil {
		return err
	}
	a, err := recovery.ParseAnswer(text)
	if err != nil {
		return carried(v.apply, err)
	}
	p, err := v.readPending(a)
	if err != nil {
		return err
	}
	defer p.Wipe()
	if p.User != account.User(user) {
		return carried(v.apply, recovery.ErrForeign)
	}
	o, c, err := v.atRest(ctx)
	if err != nil {
		return err
	}
	defer o.close()
	identity, err := p.Apply(a, time.Now())
	if err != nil {
		return carried(v.apply, err)
	}
	defer identity.Wipe()
	fresh, err := readPassword(v.fresh, "New password of "+ui.Safe(user), true)
	if err != nil {
		return err
	}
	o.audit.Record(audit.Event{User: p.User, What: audit.RecoveryApprove, By: byRecover, Peer: control.PeerOf(control.OwnPeer(ctx)),
		Detail: fmt.Sprintf("answer to request %s, made %s", p.ID, a.Created.Format(time.RFC3339))})
	if err := o.ring.Recover(peered(control.OwnPeer(ctx)), p.User, keyring.Proof{Identity: identity}, fresh, byRecover); err != nil {
		return explain(user, translate(err))
	}
	v.refresh(ctx, c, p.User)
	if err := v.spend(p); err != nil {
		return err
	}
	return v.done(user)
}

// readPending finds the request that an answer is for.
func (v *recoverRun) readPending(a *recovery.Answer) (*recovery.Pending, error) {
	path := v.pendingPath(a.Request)
	text, _, err := ui.ReadSecretFile(path, maxCarried)
	defer secret.Wipe(text)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ui.Failf(ui.ExitNoPerm, "mailcryptfs recover USER --request FILE", "the answer is for the request %s, which was not made here (%s is missing)", a.Request, path)
	}
	if err != nil {
		return nil, err
	}
	p, err := recovery.ParsePending(text)
	if err != nil {
		return nil, carried(path, err)
	}
	return p, nil
}

// spend keeps of the request only that it was used.
func (v *recoverRun) spend(p *recovery.Pending) error {
	p.Spend(time.Now())
	text, err := p.Encode()
	if err == nil {
		err = replaceSecret(v.pendingPath(p.ID), text)
	}
	if err != nil {
		return ui.Failf(ui.ExitIOErr, "remove "+ui.Quote(v.pendingPath(p.ID)), "the password was set, but the request could not be marked as used: %w", err)
	}
	return nil
}

// carried says what is wrong with a request, an answer, or a share.
func carried(path string, err error) error {
	switch {
	case errors.Is(err, recovery.ErrTruncated), errors.Is(err, recovery.ErrDamaged), errors.Is(err, recovery.ErrKind):
		return ui.Failf(ui.ExitDataErr, "carry it over again", "%s: %w", path, err)
	case errors.Is(err, recovery.ErrExpired):
		return ui.Failf(ui.ExitTempFail, "mailcryptfs recover USER --request FILE", "%s: %w", path, err)
	}
	return ui.Failf(ui.ExitNoPerm, "mailcryptfs recover --help", "%s: %w", path, err)
}
