package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

func TestCalls(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	c, ctx := NewClient(path), t.Context()

	password := []byte("pass word \x00\xff")
	if err := c.Enroll(ctx, "alice", password); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(password, make([]byte, len(password))) {
		t.Error("the client did not wipe the password")
	}
	if err := c.Unlock(ctx, "b\xffb/x", []byte("p2")); err != nil {
		t.Error(err)
	}
	if changed, err := c.Lock(ctx, "alice"); err != nil || !changed {
		t.Errorf("Lock(alice) = %v, %v", changed, err)
	}
	if changed, err := c.Lock(ctx, "bob"); err != nil || changed {
		t.Errorf("Lock(bob) = %v, %v", changed, err)
	}
	if st, err := c.Status(ctx, "alice"); err != nil || st.Keys != 2 || st.User != "alice" {
		t.Errorf("Status = %+v, %v", st, err)
	}
	if users, err := c.Who(ctx); err != nil || len(users) != 1 || !users[0].Unlocked {
		t.Errorf("Who = %+v, %v", users, err)
	}
	if d, err := c.Daemon(ctx); err != nil || d.Store != "/s" {
		t.Errorf("Daemon = %+v, %v", d, err)
	}
	want := []string{"enroll alice pass word \x00\xff", "unlock b\xffb/x p2", "lock alice ", "lock bob ", "status alice ", "who  ", "daemon  "}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.calls, want) {
		t.Errorf("calls %q, want %q", r.calls, want)
	}
	for i, b := range r.seen {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("the server did not wipe the password of call %d", i)
		}
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want Code
	}{
		{&Error{CodeWrongSecret, "no slot opens"}, CodeWrongSecret},
		{fmt.Errorf("x: %w", &Error{CodeEnrolled, "there is one"}), CodeEnrolled},
		{errors.New("disk on fire"), CodeInternal},
		{context.DeadlineExceeded, CodeBusy},
	} {
		path, _ := start(t, &recorder{err: tt.err})
		var e *Error
		if err := NewClient(path).Unlock(t.Context(), "alice", []byte("p")); !errors.As(err, &e) || e.Code != tt.want {
			t.Errorf("got %v, want code %s", err, tt.want)
		}
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	t.Parallel()
	_, err := NewClient(filepath.Join(t.TempDir(), "s")).Who(t.Context())
	if !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}

func TestConvertStreams(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	var seen []int64
	last, err := NewClient(path).Convert(t.Context(), "alice", ConvertRequest{Goal: GoalDecrypt, Wait: true}, func(c Conversion) {
		seen = append(seen, c.Done)
	})
	if err != nil || last.Done != 3 || last.State != StateDone || !slices.Equal(seen, []int64{0, 1, 2}) {
		t.Errorf("%+v, %v, %v", last, seen, err)
	}
	var e *Error
	if _, err := NewClient(path).Convert(t.Context(), "alice", ConvertRequest{Goal: "x"}, nil); !errors.As(err, &e) || e.Code != CodeBadRequest {
		t.Errorf("unknown goal: %v", err)
	}
	r.err = &Error{CodeLocked, "locked"}
	if _, err := NewClient(path).Convert(t.Context(), "alice", ConvertRequest{Goal: GoalEncrypt}, nil); !errors.As(err, &e) || e.Code != CodeLocked {
		t.Errorf("refused: %v", err)
	}
}

func TestPasswdAndRegister(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	old, fresh := []byte("old"), []byte("new")
	if err := NewClient(path).Passwd(t.Context(), "alice", Proof{Password: old}, fresh); err != nil {
		t.Fatal(err)
	}
	if err := NewClient(path).Register(t.Context(), "alice", 4711); err != nil {
		t.Fatal(err)
	}
	for _, b := range append(r.seen, old, fresh) {
		if len(bytes.Trim(b, "\x00")) != 0 {
			t.Errorf("%q is left", b)
		}
	}
	if want := []string{"passwd alice old", "passwd alice new", "register 4711 alice "}; !slices.Equal(r.calls, want) {
		t.Errorf("calls %q", r.calls)
	}
	var e *Error
	if err := NewClient(path).Passwd(t.Context(), "alice", Proof{}, []byte("x")); !errors.As(err, &e) || e.Code != CodeBadRequest {
		t.Errorf("without the old password: %v", err)
	}
	if err := NewClient(path).Register(t.Context(), "alice", 1); !errors.As(err, &e) || e.Code != CodeBadRequest {
		t.Errorf("init: %v", err)
	}
}
