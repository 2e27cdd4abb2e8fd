package target

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const password = "benchmark of mailcryptfs"

// mailcryptfs returns a function that starts one daemon with two sets of users, all enrolled: those of the first are
// unlocked, those of the second are not. Both targets come from it.
func mailcryptfs(name string) func(Env) ([]*Target, error) {
	return func(e Env) ([]*Target, error) {
		m, err := e.newSite(name)
		if err != nil {
			return nil, err
		}
		d, err := e.serve(name, m.view, m.program, "--config", m.config, "serve")
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		stop := func() error { return errors.Join(d.stop(), m.close()) }
		version, err := run("", m.program, "version")
		version = strings.ReplaceAll(version, "\n", "; ")
		unlocked := &Target{Name: name, Version: version, Daemon: d.process.Pid, root: m.view, prefix: "u", close: stop}
		locked := &Target{Name: name + "-locked", Version: version, Daemon: d.process.Pid, root: m.view, prefix: "l", DeliverOnly: true}
		for i := range e.Users {
			err = errors.Join(err,
				m.verb("enroll", userName(unlocked.prefix, i)),
				m.verb("unlock", userName(unlocked.prefix, i)),
				m.verb("enroll", userName(locked.prefix, i)),
				m.lock(userName(locked.prefix, i)))
		}
		return []*Target{unlocked, locked}, err
	}
}

// site is an installation of mailcryptfs.
type site struct {
	program, config, view, runtime string
}

// newSite prepares store, configuration and a keyring on a tmpfs. Keys are derived as cheaply as is allowed: it counts
// only at login.
func (e Env) newSite(name string) (*site, error) {
	program, err := e.program(name)
	if err != nil {
		return nil, err
	}
	store, err := e.lower(name)
	if err != nil {
		return nil, err
	}
	view, err := e.mountPoint(name)
	if err != nil {
		return nil, err
	}
	m := &site{program: program, config: filepath.Join(e.Work, name+".toml"), view: view, runtime: filepath.Join(e.Work, name)}
	if err := os.MkdirAll(m.runtime, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", m.runtime, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return nil, fmt.Errorf("cannot mount a tmpfs for the keyring: %w", err)
	}
	settings := fmt.Sprintf(`store = %q
view = %q
profile = "dovecot-maildir"
user = "%%u"
site_secret = %q
keyring = %q
control = %q
kdf_memory_kib = 19456
kdf_time = 1
epoch = "10m"
lock_memory = "warn"
enroll = "auto"
recovery = "none"
`, store, view, filepath.Join(e.Work, name+".secret"), filepath.Join(m.runtime, "keyring"), filepath.Join(m.runtime, "control.sock"))
	if err := os.WriteFile(m.config, []byte(settings), 0o600); err != nil {
		return nil, errors.Join(err, m.close())
	}
	if _, err := run("", m.program, "--config", m.config, "setup"); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// verb runs a verb for a user, with the password on a descriptor of its own.
func (m *site) verb(verb, user string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	_, werr := w.WriteString(password + "\n")
	if err := errors.Join(werr, w.Close()); err != nil {
		return err
	}
	cmd := exec.Command(m.program, "--config", m.config, verb, "--password-fd", "3", user)
	cmd.ExtraFiles = []*os.File{r}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mailcryptfs %s %s: %w\n%s", verb, user, err, out)
	}
	return nil
}

// lock locks a user, whom enrolling may have left unlocked.
func (m *site) lock(user string) error {
	entry := filepath.Join(m.runtime, "keyring", user)
	if _, err := os.Stat(entry); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := run("", m.program, "--config", m.config, "lock", user)
	return err
}

func (m *site) close() error { return unix.Unmount(m.runtime, unix.MNT_DETACH) }
