package imports

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

// TestFuzzTargetsHaveSeeds keeps fuzz targets from testing nothing: each has seeds, in its code or in a folder of its own,
// and each folder of seeds belongs to a target. A target that was renamed or moved away from its seeds fails here.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	t.Parallel()
	targets := map[string]bool{} // "directory/FuzzName" -> it adds seeds itself
	folders := map[string]int{}  // the same -> number of files
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || d.Name() == ".git" {
			return errOrSkip(err, d)
		}
		if dir := filepath.Dir(path); d.IsDir() && strings.HasSuffix(dir, filepath.Join("testdata", "fuzz")) {
			entries, err := os.ReadDir(path)
			folders[filepath.Join(filepath.Dir(filepath.Dir(dir)), d.Name())] = len(entries)
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			return fuzzTargets(path, targets)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) == 0 {
		t.Fatal("no fuzz targets found")
	}
	for target, adds := range targets {
		if !adds && folders[target] == 0 {
			t.Errorf("%s has no seeds: neither f.Add nor files in testdata/fuzz", target)
		}
	}
	for folder, files := range folders {
		if _, ok := targets[folder]; !ok {
			t.Errorf("the seeds of %s belong to no fuzz target", folder)
		}
		if files == 0 {
			t.Errorf("the folder of seeds of %s is empty", folder)
		}
	}
}

func errOrSkip(err error, d iofs.DirEntry) error {
	if err == nil && d.IsDir() {
		return filepath.SkipDir
	}
	return err
}

// fuzzTargets notes the fuzz targets of a file, and whether a call of Add stands in each.
func fuzzTargets(path string, targets map[string]bool) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(f.Name.Name, "Fuzz") || f.Recv != nil {
			continue
		}
		adds := false
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Add" {
				adds = true
			}
			return true
		})
		targets[filepath.Join(filepath.Dir(path), f.Name.Name)] = adds
	}
	return nil
}
