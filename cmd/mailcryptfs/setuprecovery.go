package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// addRecovery makes a recovery key, writes its private half where the administrator says, and its public half into the
// configuration file, which is there by now. It gives the site secret to all recovery keys.
func (s *setup) addRecovery(ctx context.Context, c config.Config) error {
	if len(c.Recipients) >= config.MaxRecipients {
		return ui.Failf(ui.ExitConfig, "retire one that nobody has any more", "the configuration has %d recovery keys, the most that are possible", len(c.Recipients))
	}
	r, err := s.writeKey()
	if err != nil {
		return err
	}
	c.Recipients = append(slices.Clone(c.Recipients), r.String())
	if c.Recovery == "none" {
		c.Recovery = "required"
	}
	if err := amendConfig(s.configPath, c); err != nil {
		return ui.Failf(ui.ExitCode(err), fmt.Sprintf("write recovery = %q and add %q to recovery_recipients in %s", c.Recovery, r, s.configPath),
			"the recovery key was made, but not put into the configuration: %w", err)
	}
	s.made = append(s.made, fmt.Sprintf("made the recovery key %s; its public half is in %s\n", shorten(r.String()), s.configPath))
	return s.spread(ctx, c)
}

// writeKey writes the private half to the file that was named, or to standard output, and nowhere else.
func (s *setup) writeKey() (recovery.Recipient, error) {
	var text bytes.Buffer
	text.Grow(8 << 10) // it does not move, and leaves no copy
	defer func() { secret.Wipe(text.Bytes()) }()
	r, err := recovery.Generate(&text, !s.classic)
	if err != nil {
		return r, ui.Fail(ui.ExitSoftware, "", err)
	}
	if s.recovery == "-" {
		if _, err := s.out.Write(text.Bytes()); err != nil {
			return r, ui.Failf(ui.ExitIOErr, "", "cannot write the recovery key: %w", err)
		}
		return r, nil
	}
	f, err := os.OpenFile(s.recovery, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return r, ui.Failf(ui.ExitCantCreate, "choose another name", "%s is there already and is not overwritten", s.recovery)
	}
	if err != nil {
		return r, ui.Failf(ui.ExitCantCreate, "", "cannot write the recovery key: %w", err)
	}
	_, err = io.Copy(f, bytes.NewReader(text.Bytes()))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return r, ui.Failf(ui.ExitIOErr, "", "cannot write the recovery key: %w", errors.Join(err, os.Remove(s.recovery)))
	}
	s.warnMedium(s.recovery, "move the private half to a medium or machine elsewhere, and make a new key if that copy is to be trusted for ever")
	s.made = append(s.made, fmt.Sprintf("wrote the private half of a recovery key to %s\n", s.recovery))
	return r, nil
}

// escrowAll gives the site secret to all recovery keys.
func (s *setup) escrowAll(ctx context.Context, c config.Config) error {
	p, err := recoveryPolicyOf(s.configPath, c)
	if err != nil {
		return err
	}
	b, err := s.site.read(ctx, c)
	if err != nil {
		return err
	}
	defer secret.Wipe(b)
	if err := escrowSite(c.Store, b, p.recipients); err != nil {
		return ui.Fail(ui.ExitIOErr, "mailcryptfs doctor", err)
	}
	return nil
}

// spread gives the site secret to all recovery keys: by a daemon that runs, which takes the new key over, or without one.
func (s *setup) spread(ctx context.Context, c config.Config) error {
	r, err := control.NewClient(c.Control).Reload(ctx)
	switch {
	case errors.Is(err, control.ErrNoDaemon):
		return s.escrowAll(ctx, c)
	case err != nil:
		return ui.Fail(ui.ExitTempFail, "systemctl reload mailcryptfs", err)
	case r.Problem != "":
		return ui.Failf(ui.ExitIOErr, "mend it, then: systemctl reload mailcryptfs", "%s", r.Problem)
	}
	s.made = append(s.made, "the daemon has taken it over; users follow at their next unlock\n")
	return nil
}

// amendConfig replaces the configuration file by one with other recovery keys, atomically, with mode and owner kept.
func amendConfig(path string, c config.Config) (err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	amended, err := config.Amend(path, text, c, "recovery", "recovery_recipients")
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".mailcryptfs-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(amended)
	if err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // the change is done; a crash now may undo it
	}
	defer d.Close()
	return d.Sync()
}
