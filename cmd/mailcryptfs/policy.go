package main

import (
	"errors"
	"sync/atomic"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/recovery"
)

// errRecoveryRequired says that nobody may be enrolled now.
var errRecoveryRequired = errors.New(`the configuration demands recovery keys (recovery = "required") and names none`)

// policy is what the configuration says of recovery keys. It changes while the daemon runs. Safe for concurrent use.
type policy struct {
	now atomic.Pointer[recoveryPolicy]
}

type recoveryPolicy struct {
	mode       string // recovery of the configuration
	recipients []recovery.Recipient
}

func newPolicy(p recoveryPolicy) *policy {
	var all policy
	all.now.Store(&p)
	return &all
}

// mayEnroll returns errRecoveryRequired where a user would get a key that only his password opens against the rule.
func (p *policy) mayEnroll() error {
	if now := p.now.Load(); now.mode == "required" && len(now.recipients) == 0 {
		return errRecoveryRequired
	}
	return nil
}

func (p *policy) recipients() []recovery.Recipient { return p.now.Load().recipients }

// recoveryPolicyOf reads the recovery keys of a configuration that was validated.
func recoveryPolicyOf(path string, c config.Config) (recoveryPolicy, error) {
	p := recoveryPolicy{mode: c.Recovery}
	for _, text := range c.Recipients {
		r, err := recovery.ParseRecipient(text)
		if err != nil {
			return p, ui.Failf(ui.ExitConfig, "correct "+ui.Quote(path)+", then: mailcryptfs serve --check-config",
				"%s: recovery_recipients: %.20s...: %w", path, text, err)
		}
		p.recipients = append(p.recipients, r)
	}
	return p, nil
}
