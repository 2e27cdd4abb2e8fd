package unlock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// handle serves one connection with one page of locked memory; the caller wipes the page and closes the connection.
func (s *server) handle(ctx context.Context, conn *net.UnixConn, page []byte) {
	log := s.options.Log
	uid, err := peer(conn)
	if err != nil || uid != 0 {
		log.Warn("PAM request refused: the peer is not root", "uid", uid, "err", err)
		s.answer(conn, wire.Request{}, wire.Denied)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(s.options.Patience))
	// The end of the daemon does not wait for somebody who sends nothing.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	request, err := wire.ReadRequest(conn, page)
	stop()
	switch {
	case errors.Is(err, io.EOF):
		return // P2: somebody asked whether anybody listens
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		return // P3: the daemon ends, and the request had not come
	case err == nil:
		err = s.inTurn(ctx, request)
		if cutShort(ctx, err) {
			err = fmt.Errorf("%w: %w", errEnding, err)
		}
	case !errors.Is(err, wire.ErrVersion):
		err = fmt.Errorf("%w: %w", wire.ErrMalformed, err) // also one that ends, or stops coming, in the middle
	}
	status := statusOf(err)
	report(ctx, log, request, status, err)
	s.answer(conn, request, status)
}

// inTurn waits for one of the turns and calls the Unlocker.
func (s *server) inTurn(ctx context.Context, r wire.Request) error {
	select {
	case s.turns <- struct{}{}: // a free turn is taken, however late it is
	default:
		wait := time.NewTimer(s.options.Wait)
		defer wait.Stop()
		select {
		case s.turns <- struct{}{}:
		case <-wait.C:
			return ErrBusy
		case <-ctx.Done():
			return fmt.Errorf("while waiting for a turn: %w", ctx.Err())
		}
	}
	defer func() { <-s.turns }()

	return s.call(ctx, r)
}

// errEnding says that the request was not done because the daemon ends.
var errEnding = errors.New("the daemon ends")

// cutShort tells an error that the end of ctx has made from those that would have come all the same.
func cutShort(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}

// call hands the request to the Unlocker. A panic costs this request only.
func (s *server) call(ctx context.Context, r wire.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.options.Log.ErrorContext(ctx, "a PAM request failed by a mistake of mailcryptfs: please report it",
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	user, err := account.Parse(r.User)
	if err != nil {
		return err
	}
	switch r.Kind {
	case wire.Change:
		return s.unlocker.ChangePassword(ctx, user, r.Old, r.Password)
	case wire.Reset:
		return s.unlocker.ResetPassword(ctx, user, r.Password)
	default: // the codec lets no other kind through
		return s.unlocker.Login(ctx, user, r.Service, r.RemoteHost, r.Password)
	}
}

var errPanic = errors.New("the request met a mistake of mailcryptfs")

// answer sends an answer. Its failure is the client's loss: the client logs that none came.
func (s *server) answer(conn *net.UnixConn, r wire.Request, status wire.Status) {
	frame, err := wire.Answer{Status: status, Text: text(r.Kind, status)}.Append(nil)
	if err != nil {
		panic(err) // the texts are constants of this package
	}
	_ = conn.SetWriteDeadline(time.Now().Add(s.options.Patience))
	_, _ = conn.Write(frame)
}

// statusOf maps an error to its answer (P10).
func statusOf(err error) wire.Status {
	switch {
	case err == nil:
		return wire.OK
	case errors.Is(err, secret.ErrNotEnrolled):
		return wire.NotEnrolled
	case errors.Is(err, ErrWrongSecret):
		return wire.WrongSecret
	case errors.Is(err, ErrBusy), errors.Is(err, errEnding):
		return wire.Busy
	case errors.Is(err, wire.ErrVersion):
		return wire.Unsupported
	case errors.Is(err, wire.ErrMalformed), errors.Is(err, account.ErrName):
		return wire.Malformed
	}
	return wire.Failed
}

// text returns the line that the module logs: what is the matter, and what to do (P9, P11).
func text(kind wire.Kind, status wire.Status) string {
	switch status {
	case wire.OK:
		return ""
	case wire.NotEnrolled:
		return "the user has no keys; 'mailcryptfs enroll' makes some"
	case wire.WrongSecret:
		if kind == wire.Login {
			return "no slot opens with this password; 'mailcryptfs passwd' mends it with the old one or a recovery code"
		}
		return "the old password is needed; 'mailcryptfs passwd' takes it, or a recovery code"
	case wire.Malformed:
		return "the request or the user name is not allowed"
	case wire.Unsupported:
		return "module and daemon have different versions; install those of one release"
	case wire.Busy:
		return "the daemon has too many requests at once, or is ending; try again"
	case wire.Denied:
		return "only root may ask"
	}
	return "the daemon could not do it; 'journalctl -u mailcryptfs' says why"
}

// report writes one record about a request. Logins that went well are frequent and say nothing new.
func report(ctx context.Context, log *slog.Logger, r wire.Request, status wire.Status, err error) {
	level := slog.LevelError
	switch status {
	case wire.OK:
		level = slog.LevelInfo
		if r.Kind == wire.Login {
			level = slog.LevelDebug
		}
	case wire.NotEnrolled:
		level = slog.LevelDebug
	case wire.WrongSecret, wire.Busy:
		level = slog.LevelWarn
	}
	if errors.Is(err, errEnding) {
		level = slog.LevelInfo // nothing is wrong with a stop
	}
	attrs := []slog.Attr{slog.String("op", r.Kind.String()), slog.String("user", r.User)}
	if r.Kind == wire.Login {
		attrs = append(attrs, slog.String("service", r.Service), slog.String("rhost", r.RemoteHost))
	}
	attrs = append(attrs, slog.String("status", status.String()))
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	log.LogAttrs(ctx, level, "PAM request", attrs...)
}
