package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// proof notes each secret that is shown.
func (r *recorder) proof(ctx context.Context, verb, user string, p Proof) error {
	for _, b := range [][]byte{p.Password, p.Code, p.Key} {
		if len(b) > 0 {
			if err := r.note(ctx, verb, user, b); err != nil {
				return err
			}
		}
	}
	return nil
}

var exampleSlots = []Slot{{ID: "0123456789abcdef", Kind: "password", Label: "phone", Created: time.Unix(1, 0).UTC()}}

func (r *recorder) Slots(ctx context.Context, user string) ([]Slot, error) {
	return exampleSlots, r.note(ctx, "slots", user, nil)
}

func (r *recorder) AddSlot(ctx context.Context, user string, p Proof, n NewSlot) (AddedSlot, error) {
	err := errors.Join(r.proof(ctx, "add", user, p), r.note(ctx, "add "+n.Label, user, n.Password))
	code := []byte("NEEDLE-CODE-" + PeerOf(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, code)
	return AddedSlot{ID: "id", Code: code}, err
}

func (r *recorder) RevokeSlot(ctx context.Context, user, id string, force bool) error {
	return r.note(ctx, fmt.Sprint("revoke ", id, " ", force), user, nil)
}

func (r *recorder) Rotate(ctx context.Context, user string, identity bool) (Rotation, error) {
	return Rotation{Keys: 3, Identity: identity}, r.note(ctx, fmt.Sprint("rotate ", identity), user, nil)
}

func (r *recorder) Forget(ctx context.Context, user string) (Forgotten, error) {
	return Forgotten{User: user, Slots: 2}, r.note(ctx, "forget", user, nil)
}

func (r *recorder) Refresh(ctx context.Context, user string) error {
	return r.note(ctx, "refresh", user, nil)
}

func (r *recorder) Reload(ctx context.Context) (Reloaded, error) {
	return Reloaded{Recipients: 2}, r.note(ctx, "reload", "", nil)
}

func (r *recorder) Events(ctx context.Context, user string) ([]Event, error) {
	return []Event{{What: "recover"}}, r.note(ctx, "events", user, nil)
}

func (r *recorder) Survey(ctx context.Context) ([]Survey, error) {
	return []Survey{{User: "alice", NoWay: true}}, r.note(ctx, "survey", "", nil)
}

func TestSlotCalls(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	c, ctx := NewClient(path), t.Context()
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	if all, err := c.Slots(ctx, "alice"); err != nil || !reflect.DeepEqual(all, exampleSlots) {
		t.Errorf("Slots = %+v, %v", all, err)
	}
	code, password := []byte("AAAA-BBBB"), []byte("new")
	added, err := c.AddSlot(ctx, "alice", Proof{Code: code}, NewSlot{Label: "phone", Password: password})
	if err != nil || added.ID != "id" || !strings.HasPrefix(string(added.Code), "NEEDLE-CODE-uid 0, pid ") {
		t.Errorf("AddSlot = %q, %v", added.Code, err)
	}
	if !strings.Contains(string(added.Code), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("the peer was not named: %q", added.Code)
	}
	key := []byte("AGE-SECRET-KEY-1")
	if err := c.Passwd(ctx, "alice", Proof{Key: key}, []byte("new2")); err != nil {
		t.Error(err)
	}
	if err := c.RevokeSlot(ctx, "alice", "0123", true); err != nil {
		t.Error(err)
	}
	if got, err := c.Rotate(ctx, "alice", true); err != nil || got.Keys != 3 || !got.Identity {
		t.Errorf("Rotate = %+v, %v", got, err)
	}
	if got, err := c.Forget(ctx, "alice"); err != nil || got.User != "alice" || got.Slots != 2 {
		t.Errorf("Forget = %+v, %v", got, err)
	}
	if err := c.Refresh(ctx, "alice"); err != nil {
		t.Error(err)
	}
	if got, err := c.Reload(ctx); err != nil || got.Recipients != 2 {
		t.Errorf("Reload = %+v, %v", got, err)
	}
	if got, err := c.Survey(ctx); err != nil || len(got) != 1 || !got[0].NoWay {
		t.Errorf("Survey = %+v, %v", got, err)
	}
	if got, err := c.Events(ctx, "alice"); err != nil || len(got) != 1 || got[0].What != "recover" {
		t.Errorf("Events = %+v, %v", got, err)
	}
	want := []string{"slots alice ", "add alice AAAA-BBBB", "add phone alice new", "passwd alice AGE-SECRET-KEY-1", "passwd alice new2",
		"revoke 0123 true alice ", "rotate true alice ", "forget alice ", "refresh alice ", "reload  ", "survey  ", "events alice "}
	if !slices.Equal(r.calls, want) {
		t.Errorf("calls %q", r.calls)
	}
	for _, b := range append(r.seen, code, password, key) {
		if len(bytes.Trim(b, "\x00")) != 0 {
			t.Errorf("%q is left", b)
		}
	}
}

func TestBadProofs(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	path, _ := start(t, r)
	c, ctx := NewClient(path), t.Context()
	for name, p := range map[string]Proof{
		"two secrets": {Password: []byte("a"), Code: []byte("b")},
		"long key":    {Key: bytes.Repeat([]byte("k"), MaxKey+1)},
		"long code":   {Code: bytes.Repeat([]byte("c"), MaxPassword+1)},
		"nothing":     {},
	} {
		var e *Error
		if err := c.Passwd(ctx, "alice", p, []byte("new")); !errors.As(err, &e) || e.Code != CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(r.calls) != 0 {
		t.Errorf("these reached the service: %q", r.calls)
	}
	r.err = &Error{CodeFull, "full"}
	var e *Error
	if _, err := c.AddSlot(ctx, "alice", Proof{}, NewSlot{}); !errors.As(err, &e) || e.Code != CodeFull {
		t.Errorf("AddSlot: %v", err)
	}
	if _, err := c.AddSlot(ctx, "/", Proof{}, NewSlot{}); !errors.As(err, &e) || e.Code != CodeBadRequest {
		t.Errorf("AddSlot of nobody: %v", err)
	}
}

func TestPeer(t *testing.T) {
	t.Parallel()
	if got := PeerOf(t.Context()); got != "" {
		t.Errorf("a context without a request has the peer %q", got)
	}
	got := PeerOf(WithPeer(t.Context(), 0, 1<<22+1)) // no such process
	if got != fmt.Sprintf("uid 0, pid %d", 1<<22+1) {
		t.Errorf("%q", got)
	}
}
