package main

import (
	"errors"
	"os"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

// explain turns what the daemon reported about a user into a message with exit code and next step.
func explain(user string, err error) error {
	var e *control.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, control.ErrNoDaemon):
		return ui.Fail(ui.ExitUnavailable, "systemctl start mailcryptfs, then systemctl status mailcryptfs", err)
	case errors.Is(err, control.ErrNotPermitted):
		return ui.Fail(ui.ExitNoPerm, "run the command as root", err)
	case !errors.As(err, &e):
		return ui.Fail(ui.ExitUnavailable, "systemctl status mailcryptfs", err)
	}
	switch name := ui.Safe(user); e.Code {
	case control.CodeBadRequest:
		return ui.Fail(ui.ExitUsage, "", err)
	case control.CodeForbidden:
		return ui.Fail(ui.ExitNoPerm, "run the command as root", err)
	case control.CodeNotEnrolled:
		return ui.Failf(ui.ExitNoUser, "mailcryptfs enroll "+ui.Quote(user), "%s is not enrolled", name)
	case control.CodeEnrolled:
		return ui.Failf(ui.ExitCantCreate, "mailcryptfs unlock "+ui.Quote(user), "%s is enrolled already; nothing was changed", name)
	case control.CodeWrongSecret:
		return ui.Failf(ui.ExitNoPerm, "try again with the password that was set at enrolment, or: mailcryptfs passwd --help", "wrong password or recovery code: it opens no key slot of %s", name)
	case control.CodeLocked:
		return ui.Failf(ui.ExitNoUser, "mailcryptfs unlock "+ui.Quote(user), "%s is locked: the user's key is needed; nothing was changed", name)
	case control.CodeBadCode:
		return ui.Failf(ui.ExitNoPerm, "compare it with the sheet, group by group", "the recovery code is mistyped: %w", err)
	case control.CodeBadKey:
		return ui.Failf(ui.ExitNoPerm, "mailcryptfs recovery drill", "%s: the recovery key opens nothing: %w", name, err)
	case control.CodeNoSlot:
		return ui.Failf(ui.ExitNoInput, "mailcryptfs slot list "+ui.Quote(user), "%s: %w", name, err)
	case control.CodeLastSlot:
		return ui.Failf(ui.ExitNoPerm, "mailcryptfs slot add --recovery-code "+ui.Quote(user), "%s: %w", name, err)
	case control.CodeFull:
		return ui.Failf(ui.ExitCantCreate, "mailcryptfs slot list "+ui.Quote(user), "%s: %w", name, err)
	case control.CodeRecovery:
		return ui.Failf(ui.ExitConfig, "mailcryptfs setup --recovery FILE", "%s was not enrolled: %w", name, err)
	case control.CodeRotating:
		return ui.Failf(ui.ExitTempFail, "mailcryptfs status --user "+ui.Quote(user), "%s: %w", name, err)
	case control.CodeNoProcess:
		return ui.Fail(ui.ExitNoInput, "", err)
	case control.CodeBusy:
		return ui.Failf(ui.ExitTempFail, "try again; max_derivations in the configuration bounds parallel unlocks", "%s: %w", name, err)
	case control.CodeEnding:
		return ui.Failf(ui.ExitTempFail, "try again when it is back: systemctl status mailcryptfs", "%s: %w", name, err)
	case control.CodeMemory:
		return ui.Failf(ui.ExitOSErr, "raise LimitMEMLOCK of the unit (ulimit -l) and restart the daemon", "%s: %w", name, err)
	default:
		return ui.Fail(ui.ExitIOErr, "look for the reason in the log: journalctl -u mailcryptfs", err)
	}
}

func configRemedy(path string, err error) string {
	var key *config.KeyError
	switch {
	case errors.Is(err, config.ErrMissing):
		return "mailcryptfs setup, or name the file with --config"
	case errors.Is(err, os.ErrPermission):
		return "run the command as root"
	case errors.As(err, &key):
		return "correct " + ui.Quote(path) + ", then: mailcryptfs serve --check-config"
	default:
		return ""
	}
}
