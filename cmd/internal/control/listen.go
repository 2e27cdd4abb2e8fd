package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrInUse says that another daemon answers on the socket.
	ErrInUse = errors.New("another daemon answers on the control socket")
	// ErrEnding says that another daemon does not answer any more, but has not ended either.
	ErrEnding = errors.New("another daemon has not ended yet: it holds")
)

// How long, and how often, Listen looks for the end of another daemon: longer than its control requests may take then.
const (
	endTime  = 45 * time.Second
	endPause = 50 * time.Millisecond
)

// Socket is the control socket of the one daemon of a configuration.
type Socket struct {
	*net.UnixListener
	// Killed says that the socket was still held by a daemon that was killed and cannot end, because a thread of it waits
	// in the kernel: it does nothing any more, but its view hangs.
	Killed bool
	lock   *os.File
}

// Close removes the socket, if that has not happened before, and lets another daemon begin. It comes last of all.
func (s *Socket) Close() error {
	err := s.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, s.lock.Close())
}

// Listen makes the socket: mode 0600 in a directory that must exist and that only root (or the caller) can write to. A
// socket that a dead daemon left is replaced; one that answers gives ErrInUse. For one that is ending it waits, until ctx
// ends or ErrEnding. Closing the listener removes the file; closing the Socket says that the daemon has ended.
func Listen(ctx context.Context, path string) (*Socket, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	tick := time.NewTicker(endPause)
	defer tick.Stop()
	for end := time.Now().Add(endTime); ; {
		s, err := tryListen(path)
		switch {
		case !errors.Is(err, errHeld):
			return s, err
		case time.Now().After(end):
			return nil, fmt.Errorf("%w %s", ErrEnding, path+lockSuffix)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("while waiting for the end of another daemon: %w", ctx.Err())
		}
	}
}

// tryListen is Listen without waiting: errHeld if another daemon is starting or ending.
func tryListen(path string) (*Socket, error) {
	lock, err := openClaim(path)
	if err != nil {
		return nil, err
	}
	s := &Socket{lock: lock}
	err = s.claim(path)
	if err == nil {
		s.UnixListener, err = listenAt(path)
	}
	if err == nil {
		err = unlock(s.lock, startByte)
	}
	if err == nil {
		return s, nil
	}
	if s.UnixListener != nil {
		err = errors.Join(err, s.UnixListener.Close())
	}
	return nil, errors.Join(err, s.lock.Close())
}

// claim takes the life byte and makes room for the socket. Nobody else does the same meanwhile: the start byte is ours.
func (s *Socket) claim(path string) error {
	free, err := tryLock(s.lock, lifeByte)
	if err != nil {
		return err
	}
	there, killed, err := answers(path)
	switch {
	case err != nil:
		return err
	case there && !killed:
		return fmt.Errorf("%w %s", ErrInUse, path)
	case !free && !killed:
		return errHeld
	case !free:
		// Whose socket this is holds the lock: nobody can have taken it without replacing the socket.
		lock, err := replaceClaim(s.lock, path)
		if err != nil {
			return err
		}
		s.lock = lock
	}
	s.Killed = killed
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove a stale control socket: %w", err)
	}
	return nil
}

func listenAt(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen on the control socket: %w", err)
	}
	// Between bind and chmod the umask decides; the peer check does not depend on the mode.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot protect the control socket: %w", err), l.Close())
	}
	return l, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("cannot use the directory of the control socket: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, who could replace the control socket: chown root %s", dir, st.Uid, dir)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others (mode %04o): chmod go-w %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// answers tells whether a daemon holds a socket at path, and whether it was killed and cannot end.
func answers(path string) (there, killed bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("cannot look at the control socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return false, false, fmt.Errorf("%s exists and is not a socket: move it away, or set another path with control", path)
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	switch {
	case err == nil:
		killed = heldByKilled(c)
		return true, killed, c.Close()
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT): // nobody listens; or its daemon has just removed it
		return false, false, nil
	}
	return false, false, fmt.Errorf("cannot tell whether a daemon answers on %s: %w", path, err)
}

// heldByKilled reports whether the process that listens at the other end has ended but for threads that cannot: its first
// thread is a zombie (proc(5)), which of a Go program only a fatal signal makes.
func heldByKilled(c *net.UnixConn) bool {
	cred, err := peer(c)
	if err != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cred.Pid))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
	return bytes.HasPrefix(state, []byte("Z"))
}

// peer returns who connected (SO_PEERCRED, unix(7)).
func peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, credErr
}

// listener hands out connections that remember where their bytes went.
type listener struct{ *net.UnixListener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &wipingConn{UnixConn: c}, nil
}

// wipingConn remembers the buffers that were filled from it, so that a password does not stay in the read buffer of
// net/http, which is reused for other requests and never cleared.
type wipingConn struct {
	*net.UnixConn
	mu     sync.Mutex
	filled [][]byte // guarded by mu
}

// Read is that of the connection. Reads of one byte are net/http's watch for the end of the connection; they go on
// while a handler runs, hold nothing, and are not remembered.
func (c *wipingConn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	if n > 1 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.filled = append(c.filled, p[:n])
	}
	return n, err
}

// wipe zeroes what was read so far. Call it only when the request was read to its end, and before it is answered: the
// buffers belong to this connection until then.
func (c *wipingConn) wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.filled {
		clear(b)
	}
	c.filled = nil
}

type connKey struct{}

// withConn lets handlers find their connection.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
