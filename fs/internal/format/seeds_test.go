package format

import (
	"go/ast"
	"go/parser"
	"go/token"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSeeds checks that every fuzz target below fs has a committed seed corpus, and that no corpus lies where no target
// reads it: a fuzz test whose seeds have moved tests nothing, without a word.
func TestSeeds(t *testing.T) {
	t.Parallel()
	const top = "../.."
	targets, corpora := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(top, func(path string, d iofs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && filepath.Base(filepath.Dir(path)) == "fuzz":
			corpora[path] = true
		case strings.HasSuffix(path, "_test.go"):
			for _, name := range fuzzTargets(t, path) {
				targets[filepath.Join(filepath.Dir(path), "testdata", "fuzz", name)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) < 8 {
		t.Errorf("only %d fuzz targets found below fs", len(targets))
	}
	for dir := range targets {
		checkCorpus(t, dir)
	}
	for dir := range corpora {
		if !targets[dir] {
			t.Errorf("%s belongs to no fuzz target", dir)
		}
	}
}

func fuzzTargets(t *testing.T, path string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return nil
	}
	var out []string
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") {
			out = append(out, fn.Name.Name)
		}
	}
	return out
}

func checkCorpus(t *testing.T, dir string) {
	t.Helper()
	seeds, err := os.ReadDir(dir)
	if err != nil || len(seeds) < 3 {
		t.Errorf("%s: %d seeds, %v; commit some", dir, len(seeds), err)
	}
	for _, s := range seeds {
		b, err := os.ReadFile(filepath.Join(dir, s.Name()))
		if err != nil || !strings.HasPrefix(string(b), "go test fuzz v1\n") {
			t.Errorf("%s/%s is not a seed: %v", dir, s.Name(), err)
		}
	}
}
