package ui

import (
	"bytes"
	"context"
	"errors"
	"os/exec"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// agent is what asks people on behalf of services: on the console, in a boot splash, or through systemctl.
const agent = "systemd-ask-password"

// AskAgent asks for a secret of one line through systemd-ask-password(1), as a service without a terminal does, and waits
// until somebody answers or ctx ends. The caller wipes it.
func AskAgent(ctx context.Context, prompt string) ([]byte, error) {
	var answer, complaint bytes.Buffer
	answer.Grow(2 * MaxPassword) // it does not move, and leaves no copy
	cmd := exec.CommandContext(ctx, agent, "--timeout=0", "--id=mailcryptfs", "--", prompt)
	cmd.Stdout, cmd.Stderr = &answer, &complaint
	err := cmd.Run()
	defer func() { secret.Wipe(answer.Bytes()) }()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, Failf(ExitConfig, "start the daemon on a terminal, or with --site-secret-fd", "there is neither a terminal nor %s", agent)
	}
	if err != nil {
		return nil, Failf(ExitTempFail, "", "%s: %w: %s", agent, err, bytes.TrimSpace(complaint.Bytes()))
	}
	return judge(bytes.Clone(bytes.TrimSuffix(answer.Bytes(), []byte("\n"))))
}
