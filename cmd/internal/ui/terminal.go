package ui

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func readTerminal(prompt string, confirm bool, otherwise string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, Failf(ExitUsage, otherwise, "no terminal to ask for a password on")
	}
	defer tty.Close()
	restore, err := silence(int(tty.Fd()))
	if err != nil {
		return nil, Failf(ExitIOErr, otherwise, "cannot turn off the echo of the terminal: %w", err)
	}
	defer restore()
	first, err := ask(tty, prompt+": ")
	if err != nil {
		return nil, err
	}
	if first, err = judge(first); err != nil || !confirm {
		return first, err
	}
	second, err := ask(tty, prompt+" again: ")
	defer secret.Wipe(second)
	if err != nil {
		secret.Wipe(first)
		return nil, err
	}
	if !bytes.Equal(first, second) {
		secret.Wipe(first)
		return nil, Failf(ExitUsage, "try again", "the two passwords differ")
	}
	return first, nil
}

// silence turns the echo of a terminal off before the first prompt, so that nothing shows of a password that is typed
// quickly, and returns what turns it on again. A signal that ends the program turns it on too.
func silence(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, err
	}
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	back := sync.OnceFunc(func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }) // the terminal may be gone
	go func() {
		select {
		case s := <-signals:
			back()
			signal.Reset(s)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal)) // end as if nobody had listened
		case <-done:
		}
	}()
	return func() {
		back()
		signal.Stop(signals)
		close(done)
	}, nil
}

// ask shows a prompt and reads one line from a silent terminal.
func ask(tty *os.File, prompt string) ([]byte, error) {
	if _, err := io.WriteString(tty, prompt); err != nil {
		return nil, Failf(ExitIOErr, "", "cannot ask for it: %w", err)
	}
	p, err := term.ReadPassword(int(tty.Fd()))
	_, _ = io.WriteString(tty, "\n") // cosmetic
	if err != nil {
		secret.Wipe(p)
		return nil, Failf(ExitIOErr, "", "cannot read the password from the terminal: %w", err)
	}
	return p, nil
}

// Ask shows a question on the terminal and reads one line that is no secret.
func Ask(question string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", Failf(ExitUsage, "see --help for a flag that answers it", "no terminal to ask on: %s", question)
	}
	defer tty.Close()
	if _, err := io.WriteString(tty, question+": "); err != nil {
		return "", Failf(ExitIOErr, "", "cannot ask for it: %w", err)
	}
	line, err := bufio.NewReader(io.LimitReader(tty, 4096)).ReadString('\n')
	if err != nil {
		return "", Failf(ExitIOErr, "", "cannot read from the terminal: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
