package mountpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnknown says that there is no process that could ask.
var ErrUnknown = errors.New("it cannot be asked whether the view answers")

// Prober asks a view whether it answers, as Probe does, from a process of its own: the kernel does not let a killed process
// end while a thread of it waits for an answer of its own, so that a daemon which asked itself could not be started again. It
// is not safe for concurrent use.
type Prober struct {
	view    string
	child   *exec.Cmd // nil: none is running
	ask     io.WriteCloser
	answers chan error // closed when the child has ended
	waiting bool       // for an answer to an earlier question
}

// proberName is the name of the process in argv[0], and what makes the program be one: see BeProber.
const proberName = "mailcryptfs-probe"

// NewProber returns a Prober for the view that is mounted at path. No descriptor of /dev/fuse may be inherited by other
// programs: it would keep the view of a dead daemon.
func NewProber(path string) *Prober { return &Prober{view: path} }

// Ask returns nil if the view answers, ErrNoAnswer after limit, what statfs(2) says otherwise, and ErrUnknown.
func (p *Prober) Ask(limit time.Duration) error {
	if err := p.start(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if !p.waiting {
		if _, err := p.ask.Write([]byte{0}); err != nil {
			p.Close()
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
	}
	p.waiting = true
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err, open := <-p.answers:
		p.waiting = false
		if !open {
			p.Close()
			return fmt.Errorf("%w: %s has ended", ErrUnknown, proberName)
		}
		return err
	case <-late.C:
		return fmt.Errorf("%s: %w", p.view, ErrNoAnswer)
	}
}

// Close ends the process, as the end of this one does.
func (p *Prober) Close() {
	if p.child != nil {
		_ = p.ask.Close()
		p.child = nil
	}
}

func (p *Prober) start() error {
	if p.child != nil {
		return nil
	}
	child := &exec.Cmd{Path: "/proc/self/exe", Args: []string{proberName, p.view}, Env: []string{}}
	ask, err := child.StdinPipe()
	if err != nil {
		return err
	}
	said, err := child.StdoutPipe()
	if err != nil {
		return errors.Join(err, ask.Close())
	}
	if err := child.Start(); err != nil {
		return err
	}
	p.child, p.ask, p.answers, p.waiting = child, ask, make(chan error, 1), false
	go listen(child, said, p.answers)
	return nil
}

// listen hands on what the child says, one errno for each question, and reaps it.
func listen(child *exec.Cmd, said io.Reader, answers chan<- error) {
	defer close(answers)
	for b := []byte{0}; ; {
		if _, err := io.ReadFull(said, b); err != nil {
			_ = child.Wait()
			return
		}
		var err error
		if b[0] != 0 {
			err = unix.Errno(b[0])
		}
		answers <- err
	}
}

// BeProber is the whole of the process that a Prober starts, and never returns in it; elsewhere it does nothing. It comes
// first in main.
func BeProber() {
	if len(os.Args) != 2 || os.Args[0] != proberName {
		return
	}
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP) // they are for the daemon, with whom it ends
	for b := []byte{0}; ; {
		if _, err := io.ReadFull(os.Stdin, b); err != nil {
			os.Exit(0)
		}
		var st unix.Statfs_t
		var errno unix.Errno
		errors.As(unix.Statfs(os.Args[1], &st), &errno)
		if _, err := os.Stdout.Write([]byte{byte(errno)}); err != nil {
			os.Exit(0)
		}
	}
}
