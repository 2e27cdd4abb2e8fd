package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

func (s *Server) slotHandlers(mux *http.ServeMux) {
	mux.HandleFunc("POST "+pathPasswd, s.handle(s.ofUser(true, s.passwd)))
	mux.HandleFunc("POST "+pathPing, s.handle(func(context.Context, request) (answer, error) { return answer{}, nil }))
	mux.HandleFunc("POST "+pathSlots, s.handle(s.ofUser(false, s.slots)))
	mux.HandleFunc("POST "+pathAdd, s.add)
	mux.HandleFunc("POST "+pathRevoke, s.handle(s.ofUser(false, s.revoke)))
	mux.HandleFunc("POST "+pathRotate, s.handle(s.ofUser(false, s.rotate)))
	mux.HandleFunc("POST "+pathForget, s.handle(s.ofUser(false, s.forget)))
	mux.HandleFunc("POST "+pathRefresh, s.handle(s.ofUser(false, s.refresh)))
	mux.HandleFunc("POST "+pathReload, s.handle(s.reload))
	mux.HandleFunc("POST "+pathEvents, s.handle(s.ofUser(false, s.events)))
	mux.HandleFunc("POST "+pathSurvey, s.handle(s.survey))
}

// proof returns what the caller shows; at most one secret, or it would not be said which one was wrong.
func (r *request) proof() (Proof, error) {
	p := Proof{Password: r.Old, Code: r.Code, Key: r.Key}
	shown := 0
	for _, b := range [][]byte{p.Password, p.Code, p.Key} {
		if len(b) > 0 {
			shown++
		}
	}
	if shown > 1 {
		return Proof{}, &Error{CodeBadRequest, "give one of password, recovery code and recovery key"}
	}
	return p, nil
}

func (s *Server) passwd(ctx context.Context, user string, req request) (answer, error) {
	p, err := req.proof()
	if err == nil && p.Empty() {
		err = &Error{CodeBadRequest, "the old password is missing"}
	}
	if err != nil {
		return answer{}, err
	}
	return answer{Changed: true}, s.service.Passwd(ctx, user, p, req.Password)
}

func (s *Server) slots(ctx context.Context, user string, _ request) (answer, error) {
	all, err := s.service.Slots(ctx, user)
	return answer{Slots: all}, err
}

// add is a handler of its own: its answer may hold a recovery code.
func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(withPeer(r), requestTime)
	defer cancel()
	req, ok := s.receive(w, r)
	if !ok {
		return
	}
	defer req.wipe()
	user, err := s.subject(req, false)
	if err != nil {
		s.reply(w, answer{Error: asError(err)})
		return
	}
	p, err := req.proof()
	if err != nil {
		s.reply(w, answer{Error: asError(err)})
		return
	}
	added, err := s.service.AddSlot(ctx, user, p, NewSlot{Label: req.Label, Password: req.Password})
	if err != nil {
		s.reply(w, failed(ctx, err))
		return
	}
	defer secret.Wipe(added.Code)
	s.replySecret(w, answer{Added: &added})
}

// replySecret writes an answer past the buffers of net/http, which are used again and never cleared, and wipes it.
func (s *Server) replySecret(w http.ResponseWriter, a answer) {
	text, err := json.Marshal(a)
	defer secret.Wipe(text)
	if err != nil {
		s.reply(w, answer{Error: asError(err)})
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.reply(w, answer{Error: asError(err)})
		return
	}
	defer conn.Close()
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
	_, err = fmt.Fprintf(conn, head, len(text))
	if err == nil {
		_, err = conn.Write(text)
	}
	if err != nil {
		s.log.Warn("a recovery code was made, but whoever asked for it has gone: it is useless; revoke its slot", "err", err)
	}
}

func (s *Server) revoke(ctx context.Context, user string, req request) (answer, error) {
	return answer{Changed: true}, s.service.RevokeSlot(ctx, user, req.Slot, req.Force)
}

func (s *Server) rotate(ctx context.Context, user string, req request) (answer, error) {
	r, err := s.service.Rotate(ctx, user, req.Identity)
	return answer{Rotation: &r}, err
}

func (s *Server) forget(ctx context.Context, user string, _ request) (answer, error) {
	f, err := s.service.Forget(ctx, user)
	return answer{Forgotten: &f}, err
}

func (s *Server) refresh(ctx context.Context, user string, _ request) (answer, error) {
	return answer{Changed: true}, s.service.Refresh(ctx, user)
}

func (s *Server) reload(ctx context.Context, _ request) (answer, error) {
	r, err := s.service.Reload(ctx)
	return answer{Reloaded: &r}, err
}

func (s *Server) survey(ctx context.Context, _ request) (answer, error) {
	all, err := s.service.Survey(ctx)
	return answer{Survey: all}, err
}

func (s *Server) events(ctx context.Context, user string, _ request) (answer, error) {
	all, err := s.service.Events(ctx, user)
	return answer{Events: all}, err
}
