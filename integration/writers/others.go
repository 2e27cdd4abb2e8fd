package writers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// mapped reads the messages of a mailbox through mappings, and fails when one has another content than its own.
func (w *writer) mapped() func(int) error {
	return func(int) error {
		entries, err := os.ReadDir(w.place + "/new")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := mapOne(w.place+"/new/"+e.Name(), mail(e.Name())); err != nil {
				return err
			}
		}
		time.Sleep(time.Millisecond) // others want the processor too
		return nil
	}
}

// mapOne compares a message with a mapping of it. It may be removed, or its user locked, before it is open; a fault is an
// error like one of read(2).
func mapOne(path string, want []byte) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("mapping of %s: %w", path, unix.EIO)
		}
	}()
	b, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap %s: %w", path, err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if !bytes.Equal(b, want) {
		return fmt.Errorf("the mapping of %s has another content", path)
	}
	return nil
}

// exBusy is the end of a verb whose work goes on, or has to be asked for again.
const exBusy = 75

// verb calls a verb, with secrets as its descriptors 3, 4, ….
func (w *writer) verb(secrets [][]byte, args ...string) error {
	cmd := exec.Command(w.binary, append([]string{args[0], "--config", w.config}, args[1:]...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	for _, s := range secrets {
		r, wr, err := os.Pipe()
		if err != nil {
			return err
		}
		_, err = wr.Write(s)
		if err := errors.Join(err, wr.Close()); err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		if cmd.ProcessState.ExitCode() == exBusy {
			return nil
		}
		return fmt.Errorf("%w: %s: %w: %s", errVerb, args[0], err, out)
	}
	return nil
}

// passwd changes the password of the user in place again and again, beginning with the one that id says: "begin I",
// "done I", where Password(user, I) is the new one.
func (w *writer) passwd() func(int) error {
	done, err := strconv.Atoi(w.id)
	return func(int) error {
		if err != nil {
			return err
		}
		if err := w.note("begin %d", done+1); err != nil {
			return err
		}
		if err := w.verb([][]byte{Password(w.place, done), Password(w.place, done+1)}, "passwd", w.place, "--old-fd", "3", "--new-fd", "4"); err != nil {
			return err
		}
		done++
		if err := w.note("done %d", done); err != nil {
			return err
		}
		return unix.Statfs(w.view, new(unix.Statfs_t)) // the verb does without a daemon
	}
}

// enroll enrols new users: "done NAME".
func (w *writer) enroll() func(int) error {
	return func(i int) error {
		user := fmt.Sprintf("%s-%d", w.id, i)
		return w.done(w.verb([][]byte{Password(user, 0)}, "enroll", user, "--password-fd", "3"), "done %s", user)
	}
}

// rotate gives the user in place a new content key, and then a new identity.
func (w *writer) rotate() func(int) error {
	return func(i int) error {
		switch i {
		case 0:
			return w.verb(nil, "rotate", w.place)
		case 1:
			return w.verb(nil, "rotate", w.place, "--identity")
		}
		time.Sleep(20 * time.Millisecond) // the daemon has enough to do
		return unix.Statfs(w.view, new(unix.Statfs_t))
	}
}

// toggle unlocks and locks the user in place, whose password nobody changes.
func (w *writer) toggle() func(int) error {
	return func(i int) error {
		if i%2 == 1 {
			return w.verb(nil, "lock", w.place)
		}
		return w.verb([][]byte{Password(w.place, 0)}, "unlock", w.place, "--password-fd", "3")
	}
}
