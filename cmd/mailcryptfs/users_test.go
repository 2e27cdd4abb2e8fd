package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestUsersOfRemoved removes a domain after it was listed: that keeps nobody else from being found.
func TestUsersOfRemoved(t *testing.T) {
	t.Parallel()
	view := t.TempDir()
	for _, dir := range []string{"a.org/alice", "b.org/bob", "c.org/carol"} {
		if err := os.MkdirAll(filepath.Join(view, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	domains, err := os.ReadDir(view)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(view, "b.org")); err != nil {
		t.Fatal(err)
	}
	var users []string
	err = walkTemplate(view, domains, []string{"%d", "%n"}, map[string]string{}, func(values map[string]string) {
		users = append(users, values["%n"]+"@"+values["%d"])
	})
	if slices.Sort(users); err != nil || !slices.Equal(users, []string{"alice@a.org", "carol@c.org"}) {
		t.Errorf("%q, %v", users, err)
	}
}
