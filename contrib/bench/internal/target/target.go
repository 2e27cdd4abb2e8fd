// Package target brings up what is measured: a directory of a filesystem, or a daemon that serves one.
//
// All targets keep their data on one filesystem, given as Env.Lower.
package target

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Env is what targets are made from.
type Env struct {
	Lower string // directory on the filesystem that all targets store to
	Work  string // directory for mount points, sockets and logs
	Bin   string // directory with the programs that were built for the benchmark
	Users int    // number of users to prepare
}

// Target is a filesystem to measure. It is not safe for concurrent use; what lies in its homes is.
type Target struct {
	Name        string
	Version     string // of the program that serves it
	Device      uint64 // st_dev of the mount
	Daemon      int    // process id, 0 for a filesystem of the kernel
	DeliverOnly bool   // users are locked: existing private files cannot be opened

	root   string // directory with one home per user
	prefix string // of the users' names
	close  func() error
}

// Home returns the directory of user i, 0 ≤ i < Env.Users, making it if need be.
func (t *Target) Home(i int) (string, error) {
	dir := filepath.Join(t.root, userName(t.prefix, i))
	return dir, os.MkdirAll(dir, 0o700)
}

// IsFUSE tells whether requests go to a daemon.
func (t *Target) IsFUSE() bool { return t.Daemon != 0 }

// Close ends the daemon and its mount. The data stays.
func (t *Target) Close() error {
	if t.close == nil {
		return nil
	}
	return t.close()
}

func userName(prefix string, i int) string { return fmt.Sprintf("%s%02d", prefix, i) }

// kinds are the targets by name. Some come from one daemon: it is started once.
var kinds = []struct {
	name, doc string
	open      func(e Env) ([]*Target, error)
}{
	{"ext4", "the filesystem beneath all others", openPlain},
	{MailCrypt, "ext4, with Dovecot's mail_crypt", openMailCrypt},
	{"gocryptfs", "gocryptfs of the distribution, for its owner only", gocryptfs("gocryptfs", false)},
	{"gocryptfs-allow", "the same with -allow_other", gocryptfs("gocryptfs", true)},
	{"gocryptfs26", "gocryptfs 2.6.1, for its owner only", gocryptfs("gocryptfs-2.6.1", false)},
	{"gocryptfs26-allow", "the same with -allow_other, as mail needs it", gocryptfs("gocryptfs-2.6.1", true)},
	{"loopback", "go-fuse's loopback example: no encryption, the floor of FUSE", openLoopback},
	{"mailcryptfs", "mailcryptfs, users unlocked", mailcryptfs("mailcryptfs")},
	{"mailcryptfs-locked", "mailcryptfs, users locked (deliveries only)", mailcryptfs("mailcryptfs")},
	{other, "another build of mailcryptfs, users unlocked", mailcryptfs(other)},
	{other + "-locked", "the same, users locked", mailcryptfs(other)},
}

// other is a build of mailcryptfs to compare with: measured only when asked for by name.
const other = "mailcryptfs-other"

// MailCrypt is plain ext4, where the mail server encrypts: it means something to benchmarks of mail only.
const MailCrypt = "mail_crypt"

// Mail returns the names of the targets that benchmarks of mail use unless others are asked for.
func Mail() []string {
	return []string{Baseline, MailCrypt, "gocryptfs26-allow", "loopback", "mailcryptfs", "mailcryptfs-locked"}
}

// Baseline is the name of the target that ratios refer to.
const Baseline = "ext4"

// Usual returns the names of the targets that are measured unless others are asked for.
func Usual() []string {
	return slices.DeleteFunc(Names(), func(name string) bool { return strings.HasPrefix(name, other) || name == MailCrypt })
}

// Names returns the names of all targets.
func Names() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// Doc says in a few words what a target is.
func Doc(name string) string {
	for _, k := range kinds {
		if k.name == name {
			return k.doc
		}
	}
	return ""
}

// Open brings up the named targets, in that order. The caller closes them, also those that come with an error.
func Open(e Env, names []string) ([]*Target, error) {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("no target %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	var all []*Target
	for _, k := range kinds {
		if !slices.Contains(names, k.name) || slices.ContainsFunc(all, func(t *Target) bool { return t.Name == k.name }) {
			continue
		}
		opened, err := k.open(e)
		all = append(all, opened...)
		if err != nil {
			return all, fmt.Errorf("cannot bring up %s: %w", k.name, err)
		}
	}
	for _, t := range all {
		var st unix.Stat_t
		if err := unix.Stat(t.root, &st); err != nil {
			return all, fmt.Errorf("stat %s: %w", t.root, err)
		}
		t.Device = st.Dev
	}
	return all, nil
}

func openPlain(e Env) ([]*Target, error) {
	dir, err := e.lower("plain")
	return []*Target{{Name: Baseline, Version: kernel(), root: dir, prefix: "u"}}, err
}

func openMailCrypt(e Env) ([]*Target, error) {
	dir, err := e.lower(MailCrypt)
	return []*Target{{Name: MailCrypt, Version: dovecotVersion(), root: dir, prefix: "u"}}, err
}

func dovecotVersion() string {
	version, err := run("", "dovecot", "--version")
	if err != nil {
		return ""
	}
	return "Dovecot " + version
}

// lower makes a directory for a target's data.
func (e Env) lower(name string) (string, error) {
	dir := filepath.Join(e.Lower, name)
	return dir, os.Mkdir(dir, 0o700)
}

// mountPoint makes a directory to mount on.
func (e Env) mountPoint(name string) (string, error) {
	dir := filepath.Join(e.Work, "mnt", name)
	return dir, os.MkdirAll(dir, 0o711)
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}
