package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// allVerbs returns the root and every visible verb at any depth.
func allVerbs() []*cobra.Command { return below(newRoot(&app{})) }

func below(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, below(c)...)
		}
	}
	return all
}

func TestHelp(t *testing.T) {
	t.Parallel()
	verbs := allVerbs()
	if len(verbs) < 10 {
		t.Fatalf("%d verbs", len(verbs))
	}
	for _, c := range verbs {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		stdout, stderr, code := call(t, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
		for _, want := range []string{c.Long, "Usage:", "Examples:\n" + c.Example, "Exit status:\n" + c.Annotations[exitKey], "64  "} {
			if !strings.Contains(stdout, want) {
				t.Errorf("%q: help lacks %q:\n%s", args, want, stdout)
			}
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 110 {
				t.Errorf("%q: line of %d characters: %s", args, len(line), line)
			}
		}
	}
}

// TestExamplesParse checks that every example in a help text is a command line that exists.
func TestExamplesParse(t *testing.T) {
	t.Parallel()
	for _, c := range allVerbs() {
		for _, line := range strings.Split(c.Example, "\n") {
			fields := strings.Fields(line)
			// What follows is for the shell, or a remark in a second column.
			if i := slices.IndexFunc(fields, func(f string) bool { return f == "|" || strings.HasPrefix(f, "3<") }); i >= 0 {
				fields = fields[:i]
			}
			if len(fields) < 2 {
				t.Errorf("%s: example %q", c.Name(), line)
				continue
			}
			verb, rest, err := newRoot(&app{}).Find(fields[1:])
			if err != nil || fields[0] != "mailcryptfs" {
				t.Errorf("%s: example %q: %v", c.Name(), line, err)
				continue
			}
			if err := verb.ParseFlags(rest); err != nil {
				t.Errorf("%s: example %q: %v", c.Name(), line, err)
			}
		}
	}
}

func TestCompletions(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if stdout, stderr, code := call(t, "completion", shell); code != 0 || !strings.Contains(stdout, "mailcryptfs") {
			t.Errorf("%s: exit %d, %s", shell, code, stderr)
		}
	}
}

// TestNoVerbTakesASecret looks at the flags of all verbs: none may carry a password on the command line.
func TestNoVerbTakesASecret(t *testing.T) {
	t.Parallel()
	for _, c := range allVerbs() {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			for _, word := range []string{"password", "old", "new", "code", "secret", "key"} {
				taken := strings.Contains(f.Name, word) && !strings.HasSuffix(f.Name, "-fd") && !strings.HasSuffix(f.Name, "-file")
				if taken && f.Value.Type() != "bool" && !slices.Contains([]string{"recovery-key", "site-secret", "keyring"}, f.Name) {
					t.Errorf("%s has the flag --%s, which may take a secret", c.Name(), f.Name)
				}
			}
		})
	}
}
