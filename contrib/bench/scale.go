package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/scale"
)

// measureScale measures how the daemon grows, and writes scale.json, scale.md and scale.svg.
func measureScale(o options) error {
	settings := scale.Full()
	if o.quick {
		settings = scale.Quick()
	}
	r, err := scale.Run(o.env, settings, os.Stderr)
	if err != nil {
		return err
	}
	m := machine(o.revision, o.about)
	r.Command = o.command
	r.About = []string{
		fmt.Sprintf("%s, %d CPUs, %d MiB; %s", m.CPU, m.CPUs, m.MemoryMiB, m.Kernel),
		fmt.Sprintf("%s; %s; mailcryptfs %s", m.Lower, m.Go, m.Revision),
		"keys derived with 19 MiB and one pass (the least that is allowed), so that logins measure the daemon rather than Argon2id",
	}
	for name, to := range map[string]func(*os.File) error{
		"scale.json": func(f *os.File) error { return r.WriteJSON(f) },
		"scale.md":   func(f *os.File) error { return r.WriteMarkdown(f) },
		"scale.svg":  func(f *os.File) error { return r.WritePlot(f) },
	} {
		f, err := os.Create(filepath.Join(o.out, name))
		if err != nil {
			return err
		}
		if err := errors.Join(to(f), f.Close()); err != nil {
			return fmt.Errorf("cannot write %s: %w", name, err)
		}
	}
	return nil
}
