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

	"golang.org/x/sys/unix"
)

// ErrInUse says that another daemon answers on the socket.
var ErrInUse = errors.New("another daemon answers on the control socket")

// Listen makes the socket: mode 0600 in a directory that must exist and that only root (or the caller) can write to. A
// socket that a dead daemon left is replaced; one that answers gives ErrInUse. Closing the listener removes the file.
// killed says that the socket was still held by a daemon that was killed and cannot end, because a thread of it waits in the
// kernel: it does nothing any more, but its view hangs.
func Listen(path string) (l *net.UnixListener, killed bool, err error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, false, err
	}
	if killed, err = removeStale(path); err != nil {
		return nil, false, err
	}
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, false, fmt.Errorf("cannot listen on the control socket: %w", err)
	}
	// Between bind and chmod the umask decides; the peer check does not depend on the mode.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, false, errors.Join(fmt.Errorf("cannot protect the control socket: %w", err), l.Close())
	}
	return l, killed, nil
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

func removeStale(path string) (killed bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot look at the control socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return false, fmt.Errorf("%s exists and is not a socket: move it away, or set another path with control", path)
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	switch {
	case err == nil:
		killed = heldByKilled(c)
		if err := c.Close(); err != nil || !killed {
			return false, errors.Join(fmt.Errorf("%w %s", ErrInUse, path), err)
		}
	case !errors.Is(err, unix.ECONNREFUSED):
		return false, fmt.Errorf("cannot tell whether a daemon answers on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return false, fmt.Errorf("cannot remove a stale control socket: %w", err)
	}
	return killed, nil
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
