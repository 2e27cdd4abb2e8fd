package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// usersOf lists the users who have a directory in the view, by the user template (user in mailcryptfs.toml(5)), ordered
// by name. A directory that is removed meanwhile has no users.
func usersOf(view, template string) ([]string, error) {
	parts := strings.Split(template, "/")
	var users []string
	entries, err := os.ReadDir(view)
	if err != nil {
		return nil, fmt.Errorf("cannot list users: %w", err)
	}
	err = walkTemplate(view, entries, parts, map[string]string{}, func(values map[string]string) {
		name := values["%u"]
		if name == "" {
			name = values["%n"]
			if d, ok := values["%d"]; ok {
				name += "@" + d
			}
		}
		if _, err := account.Parse(name); err == nil {
			users = append(users, name)
		}
	})
	slices.Sort(users)
	return users, err
}

// walkTemplate calls found for every directory below dir, whose entries are given, that fits the components.
func walkTemplate(dir string, entries []os.DirEntry, parts []string, values map[string]string, found func(map[string]string)) error {
	before, variable, after := cutVariable(parts[0])
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || variable == "" && name != before ||
			variable != "" && (len(name) <= len(before)+len(after) || !strings.HasPrefix(name, before) || !strings.HasSuffix(name, after)) {
			continue
		}
		if variable != "" {
			values[variable] = name[len(before) : len(name)-len(after)]
		}
		if len(parts) == 1 {
			found(values)
			continue
		}
		sub := filepath.Join(dir, name)
		below, err := os.ReadDir(sub)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESTALE) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot list users: %w", err)
		}
		if err := walkTemplate(sub, below, parts[1:], values, found); err != nil {
			return err
		}
	}
	return nil
}

// cutVariable splits a component around its variable; variable is empty if it has none.
func cutVariable(part string) (before, variable, after string) {
	i := strings.IndexByte(part, '%')
	if i < 0 || i+1 == len(part) {
		return part, "", ""
	}
	return part[:i], part[i : i+2], part[i+2:]
}
