package ui

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMessageAndExitCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		text string
		code int
	}{
		{"next step", Failf(ExitNoUser, "mailcryptfs enroll bob", "bob is not enrolled"),
			"mailcryptfs: bob is not enrolled\n       next: mailcryptfs enroll bob\n", 67},
		{"none", Failf(ExitIOErr, "", "disk: %w", os.ErrPermission), "mailcryptfs: disk: permission denied\n", 74},
		{"wrapped", fmt.Errorf("while: %w", Failf(ExitConfig, "a\nb", "x\ny")),
			"mailcryptfs: while: x\n             y\n       next: a\n             b\n", 78},
		{"no kind", errors.New("oops"), "mailcryptfs: oops\n", 70},
	} {
		if got := Message(tt.err); got != tt.text {
			t.Errorf("%s: message %q, want %q", tt.name, got, tt.text)
		}
		if got := ExitCode(tt.err); got != tt.code {
			t.Errorf("%s: code %d, want %d", tt.name, got, tt.code)
		}
	}
	if ExitCode(nil) != 0 {
		t.Error("no error is not success")
	}
	if err := Fail(ExitIOErr, "", os.ErrPermission); !errors.Is(err, os.ErrPermission) {
		t.Error("a Problem hides its error")
	}
}

func TestTableIsSafe(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := Table(&b, []string{"USER", "STATE"}, [][]string{{"a\x1b[2Jb\tc", "locked"}, {"é", "x\xff"}}); err != nil {
		t.Fatal(err)
	}
	want := "USER                STATE\n" + `a\u001b[2Jb\u0009c  locked` + "\n" + `é                   x\xff` + "\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := JSON(&b, map[string]string{"a": "<b>"}); err != nil || b.String() != "{\n  \"a\": \"<b>\"\n}\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := JSON(failing{}, 1); ExitCode(err) != ExitIOErr {
		t.Errorf("failing writer: %v", err)
	}
	if err := Table(failing{}, []string{"A"}, nil); ExitCode(err) != ExitIOErr {
		t.Errorf("failing writer: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"alice@example.org": "alice@example.org", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'", "a\nb": `'a\u000ab'`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestPasswordFromFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string
		code          int
	}{
		{"plain", "secret", 0o600, "secret", 0},
		{"newline", "secret\n", 0o600, "secret", 0},
		{"spaces stay", " a b \n", 0o400, " a b ", 0},
		{"bytes stay", "p\xff%@\n", 0o600, "p\xff%@", 0},
		{"longest", strings.Repeat("x", MaxPassword), 0o600, strings.Repeat("x", MaxPassword), 0},
		{"longest with newline", strings.Repeat("x", MaxPassword) + "\n", 0o600, strings.Repeat("x", MaxPassword), 0},
		{"too long", strings.Repeat("x", MaxPassword+1), 0o600, "", ExitUsage},
		{"far too long", strings.Repeat("x", 3*MaxPassword), 0o600, "", ExitNoInput},
		{"empty", "", 0o600, "", ExitUsage},
		{"only newline", "\n", 0o600, "", ExitUsage},
		{"two lines", "a\nb\n", 0o600, "", ExitUsage},
		{"zero byte", "a\x00b", 0o600, "", ExitUsage},
		{"readable by others", "secret", 0o644, "", ExitNoPerm},
	} {
		path := filepath.Join(dir, tt.name)
		if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
			t.Fatal(err)
		}
		got, err := PasswordSource{FD: -1, File: path}.Read("Password", true)
		if string(got) != tt.want || ExitCode(err) != tt.code {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
	}
	if _, err := (PasswordSource{FD: -1, File: filepath.Join(dir, "none")}).Read("", false); ExitCode(err) != ExitNoInput {
		t.Errorf("missing file: %v", err)
	}
	if _, err := (PasswordSource{FD: 3, File: "x"}).Read("", false); ExitCode(err) != ExitUsage {
		t.Errorf("both: %v", err)
	}
}

func TestPasswordFromDescriptor(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Written in two parts, as a pipe may deliver it.
	go func() {
		_, _ = w.WriteString("sec")
		_, _ = w.WriteString("ret\n")
		w.Close()
	}()
	got, err := readAll(r, MaxPassword)
	r.Close()
	if err != nil || string(got) != "secret" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := (PasswordSource{FD: 1 << 20}).Read("", false); ExitCode(err) != ExitNoInput {
		t.Errorf("a descriptor that is not open: %v", err)
	}
}

func TestReadLines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want string // joined by |; empty: refused
	}{
		{"old\nnew\n", "old|new"}, {"old\nnew", "old|new"}, {"\nnew\n", "|new"}, {"old\r\nnew\r\n", "old|new"}, {" a \nb\xff\n", " a |b\xff"},
		{"", ""}, {"old\n", ""}, {"a\nb\nc\n", ""}, {"a\x00\nb\n", ""}, {strings.Repeat("x", MaxPassword+1) + "\nb\n", ""},
		{strings.Repeat("x", 3*MaxPassword), ""},
	} {
		got, err := ReadLines(strings.NewReader(tt.in), 2)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%.20q: got %q", tt.in, got)
			}
			continue
		}
		if err != nil || string(bytes.Join(got, []byte("|"))) != tt.want {
			t.Errorf("%.20q: %q, %v", tt.in, got, err)
		}
	}
}

func TestReadSecretFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("# a\nKEY\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, warning, err := ReadSecretFile(path, 100)
	if err != nil || warning != "" || string(text) != "# a\nKEY" {
		t.Errorf("%q, %q, %v", text, warning, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, warning, err = ReadSecretFile(path, 100); err != nil || !strings.Contains(warning, "chmod 600") {
		t.Errorf("%q, %v", warning, err)
	}
	if _, _, err = ReadSecretFile(path, 3); ExitCode(err) != ExitNoInput {
		t.Errorf("a long file: %v", err)
	}
	if _, _, err = ReadSecretFile(filepath.Dir(path), 3); ExitCode(err) != ExitNoInput {
		t.Errorf("a directory: %v", err)
	}
	if _, _, err = ReadSecretFile(path+"x", 3); ExitCode(err) != ExitNoInput {
		t.Errorf("nothing: %v", err)
	}
}

// TestAskAgent answers in place of systemd-ask-password.
func TestAskAgent(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if _, err := AskAgent(t.Context(), "Secret"); ExitCode(err) != ExitConfig {
		t.Errorf("without it: %v", err)
	}
	answer := func(script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, agent), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	answer(`for a; do last=$a; done; echo "to $last"`)
	if got, err := AskAgent(t.Context(), "Secret"); err != nil || string(got) != "to Secret" {
		t.Errorf("%q, %v", got, err)
	}
	answer("echo cancelled >&2; exit 1")
	if _, err := AskAgent(t.Context(), "Secret"); ExitCode(err) != ExitTempFail || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("cancelled: %v", err)
	}
	answer("exit 0")
	if _, err := AskAgent(t.Context(), "Secret"); ExitCode(err) != ExitUsage {
		t.Errorf("empty: %v", err)
	}
}
