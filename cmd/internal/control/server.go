package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Server answers on one socket.
type Server struct {
	service Service
	log     *slog.Logger
	http    *http.Server
	end     context.CancelCauseFunc // ends the context of every request
	running sync.RWMutex            // each handler reads; Shutdown locks it for good
}

// errEnding is what requests are told that still waited for something when the daemon was asked to end.
var errEnding = &Error{CodeEnding, "the daemon is ending"}

// NewServer returns a server for the service. Nothing is answered before Serve.
func NewServer(service Service, log *slog.Logger) *Server {
	s := &Server{service: service, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathEnroll, s.handle(s.ofUser(true, s.enroll)))
	mux.HandleFunc("POST "+pathUnlock, s.handle(s.ofUser(true, s.unlock)))
	mux.HandleFunc("POST "+pathLock, s.handle(s.ofUser(false, s.lock)))
	mux.HandleFunc("POST "+pathUser, s.handle(s.ofUser(false, s.user)))
	mux.HandleFunc("POST "+pathWho, s.handle(s.who))
	mux.HandleFunc("POST "+pathDaemon, s.handle(s.daemon))
	mux.HandleFunc("POST "+pathRegister, s.handle(s.register))
	mux.HandleFunc("POST "+pathConvert, s.convert)
	s.slotHandlers(mux)
	ctx, end := context.WithCancelCause(context.Background())
	s.end = end
	s.http = &http.Server{
		Handler:           s.counted(mux),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConn,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      requestTime + 10*time.Second,
		MaxHeaderBytes:    4 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	// One request per connection: a buffer that held a password never serves another request of the same client.
	s.http.SetKeepAlivesEnabled(false)
	return s
}

// Serve answers until Shutdown, and returns nil then. It closes the listener.
func (s *Server) Serve(l *net.UnixListener) error {
	if err := s.http.Serve(listener{l}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Shutdown ends Serve, once. Requests that wait, for a derivation or a conversion, are told that the daemon is ending; one
// that writes is not cut short, since nothing that writes looks at its context. Until ctx ends they can send their
// answers, and clients that have said nothing yet can speak; then the connections are closed. When Shutdown returns no
// handler runs, so that what the service needs can be closed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.end(errEnding)
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Info("control connections are closed before they have ended")
		err = s.http.Close()
	}
	s.running.Lock() // and never unlocked: a request that was just read comes too late
	return err
}

// counted lets Shutdown wait for the handlers, which http.Server.Close does not.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.running.TryRLock() {
			return // only Shutdown locks it
		}
		defer s.running.RUnlock()
		h.ServeHTTP(w, r)
	})
}

// handle judges the caller, reads the request, calls f and writes what it answers. The passwords are wiped when f has
// returned, whatever f did with them.
func (s *Server) handle(f func(context.Context, request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(withPeer(r), requestTime)
		defer cancel()
		req, ok := s.receive(w, r)
		if !ok {
			return
		}
		defer req.wipe()
		a, err := f(ctx, req)
		if err != nil {
			a = failed(ctx, err)
		}
		s.reply(w, a)
	}
}

// receive judges the caller and reads the request, whose passwords the handler wipes; what is wrong it answers itself.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) (request, bool) {
	conn, ok := r.Context().Value(connKey{}).(*wipingConn)
	if !ok {
		panic("control: request without its connection")
	}
	if err := allowed(conn); err != nil {
		s.log.Warn("control request refused", "path", r.URL.Path, "err", err)
		s.reply(w, answer{Error: asError(err)})
		return request{}, false
	}
	req, err := readRequest(conn, r.Body)
	if err == nil {
		// The request is here: the limit for reading it must not end a slow derivation.
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		req.wipe()
		s.reply(w, answer{Error: asError(err)})
		return request{}, false
	}
	return req, true
}

// allowed refuses everybody but root and the user that the daemon runs as.
func allowed(c *wipingConn) error {
	cred, err := peer(c.UnixConn)
	if err != nil {
		return &Error{CodeForbidden, fmt.Sprintf("cannot tell who is calling: %v", err)}
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return &Error{CodeForbidden, fmt.Sprintf("only root may control the daemon, not uid %d", cred.Uid)}
	}
	return nil
}

// readRequest reads and judges a body; the caller wipes the passwords in it.
func readRequest(conn *wipingConn, body io.Reader) (request, error) {
	text := make([]byte, maxBody+1)
	defer secret.Wipe(text)
	n, err := io.ReadFull(body, text)
	conn.wipe()
	var req request
	switch {
	case err == nil:
		return req, &Error{CodeBadRequest, fmt.Sprintf("a request has at most %d bytes", maxBody)}
	case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		return req, &Error{CodeBadRequest, fmt.Sprintf("cannot read the request: %v", err)}
	}
	// Not a json.Decoder: it would keep a copy of the text in a buffer of its own.
	if err := json.Unmarshal(text[:n], &req); err != nil {
		req.wipe()
		return request{}, &Error{CodeBadRequest, "the request is not valid JSON of this protocol"}
	}
	if len(req.Password) > MaxPassword || len(req.Old) > MaxPassword || len(req.Code) > MaxPassword {
		req.wipe()
		return request{}, &Error{CodeBadRequest, fmt.Sprintf("a password has at most %d bytes", MaxPassword)}
	}
	if len(req.Key) > MaxKey {
		req.wipe()
		return request{}, &Error{CodeBadRequest, fmt.Sprintf("the file of a recovery key has at most %d bytes", MaxKey)}
	}
	return req, nil
}

func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{CodeBusy, err.Error()}
	default:
		return &Error{CodeInternal, err.Error()}
	}
}

// failed is the answer to a request that failed.
func failed(ctx context.Context, err error) answer {
	e := asError(err)
	if e.Code == CodeBusy && errors.Is(context.Cause(ctx), errEnding) {
		e = errEnding
	}
	return answer{Error: e}
}

// reply writes the answer. A client that has gone away is no event for the daemon.
func (s *Server) reply(w http.ResponseWriter, a answer) {
	text, err := json.Marshal(a)
	text = append(text, '\n')
	if err != nil {
		s.log.Error("cannot write a control answer", "err", err)
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(text); err != nil {
		s.log.Debug("control client has gone", "err", err)
	}
}

func (s *Server) enroll(ctx context.Context, user string, req request) (answer, error) {
	return answer{Changed: true}, s.service.Enroll(ctx, user, req.Password)
}

func (s *Server) unlock(ctx context.Context, user string, req request) (answer, error) {
	return answer{Changed: true}, s.service.Unlock(ctx, user, req.Password)
}

func (s *Server) lock(ctx context.Context, user string, _ request) (answer, error) {
	changed, err := s.service.Lock(ctx, user)
	return answer{Changed: changed}, err
}

func (s *Server) user(ctx context.Context, user string, _ request) (answer, error) {
	status, err := s.service.Status(ctx, user)
	return answer{User: &status}, err
}

func (s *Server) who(ctx context.Context, _ request) (answer, error) {
	users, err := s.service.Who(ctx)
	return answer{Users: users}, err
}

func (s *Server) daemon(ctx context.Context, _ request) (answer, error) {
	status, err := s.service.Daemon(ctx)
	return answer{Daemon: &status}, err
}

// ofUser makes a call of one that is about one user, who is checked before.
func (s *Server) ofUser(needsPassword bool, f func(context.Context, string, request) (answer, error)) func(context.Context, request) (answer, error) {
	return func(ctx context.Context, req request) (answer, error) {
		user, err := s.subject(req, needsPassword)
		if err != nil {
			return answer{}, err
		}
		return f(ctx, user, req)
	}
}

// subject returns the user of a request, checked as the account package does, and asks for a password where one is
// needed.
func (s *Server) subject(req request, needsPassword bool) (string, error) {
	user, err := account.Parse(string(req.User))
	if err != nil {
		return "", &Error{CodeBadRequest, err.Error()}
	}
	if needsPassword && len(req.Password) == 0 {
		return "", &Error{CodeBadRequest, "an empty password cannot protect mail"}
	}
	return string(user), nil
}
