package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// writeSecret writes a new file, mode 0600, durably, and wipes the text.
func writeSecret(path string, text []byte) error {
	defer secret.Wipe(text)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return ui.Failf(ui.ExitCantCreate, "choose another name", "%s is there already and is not overwritten", path)
	}
	if err != nil {
		return ui.Failf(ui.ExitCantCreate, "", "cannot write it: %w", err)
	}
	_, err = io.Copy(f, bytes.NewReader(text))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return ui.Failf(ui.ExitIOErr, "", "cannot write %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// replaceSecret overwrites the old content of a file in place, as far as the filesystem lets us, and puts a new file in its
// place. It wipes the text.
func replaceSecret(path string, text []byte) error {
	if err := overwrite(path); err != nil {
		secret.Wipe(text)
		return err
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		secret.Wipe(text)
		return err
	}
	if err := writeSecret(temp, text); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// overwrite writes zeros over a file.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, info.Size()))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot make it durable: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot make it durable: %w", err)
	}
	return nil
}
