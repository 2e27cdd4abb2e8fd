package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/doctor"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func newDoctor(a *app) *cobra.Command {
	d := &doctorVerb{app: a}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what breaks the encryption of mail, or leaks it",
		Long: `Looks at this machine and says what leaks mail, loses it, or keeps users locked: swap space, core
dumps, permissions, the place of the site secret, recovery keys that lie on the server, what is beneath
the view, options of the systemd unit, settings of PAM, saslauthd, Dovecot and Cyrus, users without a
way back, the last drill of the recovery key. It changes nothing, and asks for nothing.

Each finding has a severity: fail (mail leaks, or cannot be read or saved, as things are), warn (under
some circumstances), note (to be known, or a check that could not be made); what it is, why it
matters, and what to do.

With --root it looks at the files of another system, such as an image; what only a running system
tells is left out.`,
		Example: `  mailcryptfs doctor
  mailcryptfs doctor --strict --json | jq -r '.findings[].what'`,
		Annotations: exits("0   nothing fails (with --strict: and nothing is warned of)", "64  wrong arguments", "65  something fails",
			"77  not root", "78  the configuration cannot work"),
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(c *cobra.Command, _ []string) error { return d.run(c.Context()) },
	}
	c.Flags().BoolVar(&d.asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&d.strict, "strict", false, "end with 65 for warnings, too")
	c.Flags().StringVar(&d.root, "root", "/", "look at the files below this `directory`")
	return c
}

// doctorVerb is one run of the verb.
type doctorVerb struct {
	*app
	asJSON, strict bool
	root           string
}

// diagnosis is the stable answer of doctor --json.
type diagnosis struct {
	Checks   []string         `json:"checks"` // all that were made
	Findings []doctor.Finding `json:"findings"`
}

func (d *doctorVerb) run(ctx context.Context) error {
	c, err := d.config()
	if err != nil {
		return err
	}
	if err := mustBeRoot("look everywhere"); err != nil {
		return err
	}
	h := &doctor.Host{Root: d.root, Config: c, Path: d.configPath, Now: time.Now()}
	if d.root == "/" {
		h.Doveconf = doveconf
		d.daemon(ctx, h)
		d.log(h)
	} else {
		h.Unknown, h.NoLog = "another system is looked at", "another system is looked at"
	}
	findings := doctor.Run(ctx, h)
	if err := d.show(findings); err != nil {
		return err
	}
	return d.judge(findings)
}

// doveconf returns Dovecot's settings that are not the defaults.
func doveconf(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "doveconf", "-n").Output()
	return string(out), err
}

// daemon asks the daemon for its problems and its users.
func (d *doctorVerb) daemon(ctx context.Context, h *doctor.Host) {
	client := control.NewClient(h.Config.Control)
	status, err := client.Daemon(ctx)
	if err != nil {
		h.Unknown = err.Error()
		return
	}
	h.Daemon = status.Problems
	if status.Problem != "" {
		h.Daemon = append(h.Daemon, status.Problem)
	}
	users, err := client.Survey(ctx)
	if err != nil {
		h.Unknown = err.Error()
	}
	for _, u := range users {
		h.Users = append(h.Users, doctor.User{Name: u.User, NoWay: u.NoWay})
	}
}

// lately is how old a loss of the audit log may be to be told.
const lately = 30 * 24 * time.Hour

// log reads the audit log. Nobody is asked for a site secret.
func (d *doctorVerb) log(h *doctor.Host) {
	if h.Config.SiteSecret == config.AskSecret {
		h.NoLog = "the site secret is not on this machine"
		return
	}
	if err := secret.Harden(); err != nil {
		h.NoLog = err.Error()
		return
	}
	keys, err := loadSite(h.Config)
	if err != nil {
		h.NoLog = err.Error()
		return
	}
	defer keys.Wipe()
	err = audit.Read(h.Config.Store, keys, "", func(e audit.Event) error {
		switch e.What {
		case audit.Drill:
			h.Drill = e.Time
		case audit.Lost, audit.CutShort:
			if h.Now.Sub(e.Time) < lately {
				h.Losses = append(h.Losses, fmt.Sprintf("%s %s: %s", e.Time.Format(time.DateOnly), e.What, e.Detail))
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, audit.ErrDamaged):
		h.Losses = append(h.Losses, err.Error())
	case err != nil:
		h.NoLog = err.Error()
	}
}

func (d *doctorVerb) show(findings []doctor.Finding) error {
	if d.asJSON {
		return ui.JSON(d.out, diagnosis{doctor.Checks(), findings})
	}
	for _, f := range findings {
		if err := d.printf("%-4s  %s: %s; %s; remedy: %s\n", f.Severity, f.Check, ui.Safe(f.What), ui.Safe(f.Why), ui.Safe(f.Remedy)); err != nil {
			return err
		}
	}
	counts := map[doctor.Severity]int{}
	for _, f := range findings {
		counts[f.Severity]++
	}
	return d.printf("%d checks: %d fail, %d warn, %d note\n", len(doctor.Checks()), counts[doctor.Fail], counts[doctor.Warn], counts[doctor.Note])
}

func (d *doctorVerb) judge(findings []doctor.Finding) error {
	var bad []string
	for _, f := range findings {
		if f.Severity == doctor.Fail || d.strict && f.Severity == doctor.Warn {
			bad = append(bad, f.Check)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return ui.Failf(ui.ExitDataErr, "the remedies above, then mailcryptfs doctor again", "something is wrong with this machine: %s", strings.Join(bad, ", "))
}
