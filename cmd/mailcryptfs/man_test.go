package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/manpage"
)

func TestManualPagesMatchHelp(t *testing.T) {
	t.Parallel()
	const dir = "../../contrib/man"
	want := map[string]bool{}
	for _, page := range manpage.Tree(newRoot(&app{}), exitKey) {
		want[page.File] = true
		have, err := os.ReadFile(filepath.Join(dir, page.File))
		if err != nil || !bytes.Equal(have, page.Text) {
			t.Errorf("%s does not match --help (%v): run mailcryptfs man contrib/man", page.File, err)
		}
	}
	have, err := filepath.Glob(dir + "/mailcryptfs*.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range have {
		if !want[filepath.Base(path)] {
			t.Errorf("%s documents a verb that does not exist", path)
		}
	}
}

// TestConfigManualNamesEveryKey checks keys and defaults of mailcryptfs.toml(5), in both directions.
func TestConfigManualNamesEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../contrib/man/mailcryptfs.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	defaults := strings.Split(string(config.Render(config.Default())), "\n")
	var found int
	for _, line := range strings.Split(string(text), "\n") {
		key, value, ok := strings.Cut(strings.ReplaceAll(line, `\-`, "-"), `\fR = `)
		if !ok {
			continue
		}
		found++
		want := strings.TrimPrefix(key, `\fB`) + " = " + value
		if !strings.Contains("\n"+strings.Join(defaults, "\n")+"\n", "\n"+want+"\n") {
			t.Errorf("the manual says %q, which is no default", want)
		}
	}
	if found != len(config.Keys()) {
		t.Errorf("the manual describes %d keys, there are %d", found, len(config.Keys()))
	}
}
