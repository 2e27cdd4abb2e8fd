package target

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// gocryptfs returns a function that makes and mounts a gocryptfs with one of its versions, with its default settings but
// for the cost of scrypt, which only counts at the mount.
func gocryptfs(program string, allowOther bool) func(Env) ([]*Target, error) {
	return func(e Env) ([]*Target, error) {
		name := strings.Replace(program, "-2.6.1", "26", 1)
		args := []string{"-fg", "-q"}
		if allowOther {
			name += "-allow"
			args = append(args, "-allow_other")
		}
		path, err := e.program(program)
		if err != nil {
			return nil, err
		}
		store, err := e.lower(name)
		if err != nil {
			return nil, err
		}
		mount, err := e.mountPoint(name)
		if err != nil {
			return nil, err
		}
		password := filepath.Join(e.Work, name+".password")
		if err := os.WriteFile(password, []byte("benchmark"), 0o600); err != nil {
			return nil, err
		}
		if _, err := run("", path, "-init", "-q", "-scryptn", "10", "-passfile", password, store); err != nil {
			return nil, err
		}
		version, err := run("", path, "-version")
		if err != nil {
			return nil, err
		}
		d, err := e.serve(name, mount, path, append(args, "-passfile", password, store, mount)...)
		if err != nil {
			return nil, err
		}
		return []*Target{{Name: name, Version: version, Daemon: d.process.Pid, root: mount, prefix: "u", close: d.stop}}, nil
	}
}

// program finds a program among those built for the benchmark, or else among those installed.
func (e Env) program(name string) (string, error) {
	built := filepath.Join(e.Bin, name)
	if _, err := os.Stat(built); err == nil {
		return built, nil
	}
	return exec.LookPath(name)
}

func openLoopback(e Env) ([]*Target, error) {
	path, err := e.program("loopback")
	if err != nil {
		return nil, err
	}
	store, err := e.lower("loopback")
	if err != nil {
		return nil, err
	}
	mount, err := e.mountPoint("loopback")
	if err != nil {
		return nil, err
	}
	d, err := e.serve("loopback", mount, path, "-q", "-allow-other", mount, store)
	if err != nil {
		return nil, err
	}
	return []*Target{{Name: "loopback", Version: moduleVersion(path), Daemon: d.process.Pid, root: mount, prefix: "u", close: d.stop}}, nil
}

// moduleVersion returns the version of go-fuse that a Go program was built with.
func moduleVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == "github.com/hanwen/go-fuse/v2" {
			return "go-fuse " + m.Version
		}
	}
	return "unknown"
}
