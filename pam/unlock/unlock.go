// Package unlock is the daemon's side of the PAM module: it takes requests from a root-only unix socket (PROTOCOL.md,
// rules cited as P), checks who asks, and hands user and password to an Unlocker. What a request may cost is bounded:
// time, memory, connections, and work at once.
package unlock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// Unlocker does what requests ask for. Methods are called concurrently, also for the same user. The password slices
// lie in locked memory, are valid during the call only, and are wiped after it; the Unlocker may wipe them earlier. The
// context is that of Serve: it does not end when the client goes away (P3).
//
// Errors are told apart with errors.Is: secret.ErrNotEnrolled, ErrWrongSecret and ErrBusy have answers of their own
// (P10); one of the context, when that has ended, is answered as busy; any other as failed, and only logged here.
type Unlocker interface {
	// Login says that the password was just accepted for the user by the PAM service, for a client at rhost, which is
	// empty if unknown. It returns nil when the user is unlocked.
	Login(ctx context.Context, user account.User, service, rhost string, password []byte) error
	// ChangePassword says that the user's password was changed from old to new. It returns nil when new opens what old
	// opened, and ErrWrongSecret if old opens nothing.
	ChangePassword(ctx context.Context, user account.User, old, new []byte) error
	// ResetPassword says that the user's password was set to new by somebody who did not know the old one. It returns
	// nil if new opens the user's slot all the same (because the user is unlocked), and ErrWrongSecret if the old
	// password is needed first.
	ResetPassword(ctx context.Context, user account.User, new []byte) error
}

var (
	// ErrWrongSecret says that no slot of the user opens with the password.
	ErrWrongSecret = errors.New("no slot opens with this password")
	// ErrBusy says that the request was not tried because there is too much to do.
	ErrBusy = errors.New("too many requests at once")
)

// Options bound what Serve does. Zero values mean the defaults.
type Options struct {
	Log         *slog.Logger  // one record for each request; default: slog.Default()
	Connections int           // open at once, each with one page of locked memory; default 128
	Working     int           // calls of the Unlocker at once; default 64
	Wait        time.Duration // how long a request may wait for its turn; default 1 minute
	Patience    time.Duration // how long a client may take to send or to receive (P12); default 5 seconds
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Connections <= 0 {
		o.Connections = 128
	}
	if o.Working <= 0 {
		o.Working = 64
	}
	if o.Wait <= 0 {
		o.Wait = time.Minute
	}
	if o.Patience <= 0 {
		o.Patience = 5 * time.Second
	}
	return o
}

// Listen makes the socket of P1 at path, mode 0600, in place of whatever was left there, and listens. The directory must
// exist and belong to root. Closing the listener leaves the socket: a connection to it is then refused, which is what
// a module can report, and the next Listen replaces it.
func Listen(path string) (*net.UnixListener, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	// The permissions are right before the name is.
	err = os.Chmod(fresh, 0o600)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(fresh)
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, err)
	}
	return l, nil
}

// server is the state of one Serve.
type server struct {
	unlocker Unlocker
	options  Options
	pages    *pages
	turns    chan struct{} // one element for each call of the Unlocker
}

// Serve answers requests from l until ctx ends; then it closes l, waits for the requests in hand, wipes and frees its
// memory, and returns nil. It returns secret.ErrMemory at once if it cannot lock its pages, and the error of l if that
// fails for good.
func Serve(ctx context.Context, l *net.UnixListener, u Unlocker, o Options) error {
	o = o.withDefaults()
	defer func() { _ = l.Close() }()
	p, err := newPages(o.Connections)
	if err != nil {
		return err
	}
	defer p.close()
	s := &server{unlocker: u, options: o, pages: p, turns: make(chan struct{}, o.Working)}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()

	var inHand sync.WaitGroup
	defer inHand.Wait()
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of descriptors, most likely: it passes, or the log says so again and again.
			o.Log.Error("cannot accept a PAM request", "err", err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		page := p.take()
		if page == nil {
			s.answer(conn, wire.Request{}, wire.Busy)
			_ = conn.Close()
			o.Log.Warn("PAM request refused: too many connections", "connections", o.Connections)
			continue
		}
		inHand.Go(func() {
			defer p.give(page)
			defer func() { _ = conn.Close() }()
			s.handle(ctx, conn, page)
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
