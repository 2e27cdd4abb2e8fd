package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/fs/check"
	"github.com/mailcryptfs/mailcryptfs/fs/check/manifest"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

// manifests are the files that the verify verb lists messages in, and compares with.
type manifests struct{ write, read string }

func (m manifests) any() bool { return m.write != "" || m.read != "" }

// load reads the manifest to compare with; nil if none was named.
func (m manifests) load(c config.Config, keys *site.Keys) (*check.Expected, error) {
	if m.read == "" {
		return nil, nil
	}
	f, err := os.Open(m.read)
	if err != nil {
		return nil, ui.Fail(ui.ExitNoInput, "", err)
	}
	defer func() { _ = f.Close() }()
	x, err := check.LoadManifest(f, keys)
	switch {
	case errors.Is(err, manifest.ErrForeign):
		return nil, ui.Failf(ui.ExitDataErr, "use one that was made on this site, from where nobody could change it", "%s: %w", m.read, err)
	case errors.Is(err, manifest.ErrCorrupt), errors.Is(err, manifest.ErrUnsupported):
		return nil, ui.Failf(ui.ExitDataErr, "name a file that --write-manifest has made", "%s: %w", m.read, err)
	case err != nil:
		return nil, ui.Failf(ui.ExitIOErr, "", "cannot read %s: %w", m.read, err)
	}
	return x, nil
}

// listing is a manifest that is being made; nil for none. It takes its name when it is complete.
type listing struct {
	path string
	f    *os.File
	w    *manifest.Writer
}

// begin makes the file for a new manifest, beside what may be there under its name.
func (m manifests) begin(c config.Config, keys *site.Keys, u account.User) (*listing, error) {
	if m.write == "" {
		return nil, nil
	}
	path, err := filepath.Abs(m.write)
	if err != nil {
		return nil, ui.Fail(ui.ExitUsage, "", err)
	}
	for _, dir := range []string{c.Store, c.View} {
		if resolved := resolve(filepath.Dir(path)); strings.HasPrefix(resolved+"/", resolve(dir)+"/") {
			return nil, ui.Failf(ui.ExitUsage, "name a file on another disk or machine", "who can change the store could change a manifest in %s too", dir)
		}
	}
	l := &listing{path: path}
	if l.f, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*"); err != nil { // mode 0600
		return nil, ui.Fail(ui.ExitIOErr, "", err)
	}
	l.w, err = manifest.NewWriter(l.f, keys.RecordMAC, manifest.Head{Created: time.Now().Truncate(time.Second), User: u})
	if err != nil {
		l.discard()
		return nil, manifestProblem(path, err)
	}
	return l, nil
}

// resolve follows links as far as that goes.
func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

func (l *listing) writer() *manifest.Writer {
	if l == nil {
		return nil
	}
	return l.w
}

// keep completes the manifest, makes it durable, and gives it its name.
func (l *listing) keep() error {
	if l == nil {
		return nil
	}
	err := errors.Join(l.w.Close(), l.f.Sync())
	if err == nil {
		err = os.Rename(l.f.Name(), l.path)
	}
	if err != nil {
		return manifestProblem(l.path, err)
	}
	err = l.f.Close()
	l.f = nil
	if err == nil {
		err = durableDir(filepath.Dir(l.path))
	}
	if err != nil {
		return manifestProblem(l.path, err)
	}
	return nil
}

// discard removes a manifest that was not kept.
func (l *listing) discard() {
	if l == nil || l.f == nil {
		return
	}
	_ = os.Remove(l.f.Name())
	_ = l.f.Close()
	l.f = nil
}

func durableDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func manifestProblem(path string, err error) error {
	if errors.Is(err, secret.ErrWiped) {
		return ui.Fail(ui.ExitSoftware, "", err)
	}
	return ui.Failf(ui.ExitIOErr, "", "cannot write the manifest %s: %w", path, err)
}
