package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Serve starts the daemon, and returns when it says that it is ready and answers.
func (s *Site) Serve(t testing.TB) {
	t.Helper()
	if err := s.TryServe(t); err != nil {
		t.Fatalf("the daemon does not start: %v\n%s", err, s.log.End())
	}
}

// TryServe is Serve, for daemons that should refuse: the error says how it ended.
func (s *Site) TryServe(t testing.TB) error {
	t.Helper()
	notify := s.Config + ".n"
	_ = os.Remove(notify)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.spawn(t, notify); err != nil {
		t.Fatal(err)
	}
	exited, ready := s.exited, make(chan error, 1)
	go func() { ready <- waitReady(conn) }()
	go func() { // the daemon says more later, for instance that it stops
		<-exited
		_ = conn.Close()
	}()
	select {
	case err := <-ready:
		return err
	case <-s.exited:
		return errors.Join(errors.New("it ended"), *s.exitError)
	}
}

// waitReady reads notifications in the manner of sd_notify(3) until one of them says that the service is ready.
func waitReady(conn *net.UnixConn) error {
	if err := conn.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("no notification that it is ready: %w", err)
		}
		for _, line := range strings.Split(string(buf[:n]), "\n") {
			if line == "READY=1" {
				return nil
			}
		}
	}
}

// spawn starts the process; a goroutine keeps its thread, since Pdeathsig goes by that.
func (s *Site) spawn(t testing.TB, notify string) error {
	t.Helper()
	out, err := s.log.open()
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	argv := []string{Binary(t), "serve", "--config", s.Config}
	if s.files > 0 {
		argv = append([]string{"prlimit", fmt.Sprintf("--nofile=%d:%d", s.files, s.files)}, argv...)
	}
	argv = slices.Concat(s.under, argv)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + notify, "GORACE=halt_on_error=1"}
	if procs, set := os.LookupEnv("GOMAXPROCS"); set { // some deadlocks show with 1 only
		s.cmd.Env = append(s.cmd.Env, "GOMAXPROCS="+procs)
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	exited, exitError, started := make(chan struct{}), new(error), make(chan error)
	s.exited, s.exitError = exited, exitError
	go runLocked(s.cmd, started, func(err error) {
		*exitError = err
		close(exited)
	})
	return <-started
}
