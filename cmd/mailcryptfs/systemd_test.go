package main

import (
	"os"
	"strings"
	"testing"
)

// TestUnit keeps options out of the systemd unit that would give the service a mount namespace of its own.
func TestUnit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../contrib/systemd/mailcryptfs.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		settings[key] = value
		for _, bad := range []string{"Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "NoExec", "Exec" + "Paths", "Bind", "Root",
			"Mount", "Temporary", "DynamicUser", "Extension", "Runtime", "State", "PAMName", "RestrictSUIDSGID"} {
			if strings.HasPrefix(key, bad) {
				t.Errorf("%s gives the service a mount namespace, or takes modes from mail: the view would not reach the mail server", line)
			}
		}
	}
	for key, want := range map[string]string{"Type": "notify", "Restart": "always", "ExecStart": "/usr/local/sbin/mailcryptfs serve", "LimitCORE": "0"} {
		if settings[key] != want {
			t.Errorf("%s=%s, want %s", key, settings[key], want)
		}
	}
	for _, code := range []string{"64", "77", "78"} {
		if !strings.Contains(settings["RestartPreventExitStatus"], code) {
			t.Errorf("exit %s would be tried again for ever", code)
		}
	}
}
