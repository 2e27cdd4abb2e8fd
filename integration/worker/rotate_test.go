package worker

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestRotateWhileLocked: what lies under old keys of a locked user cannot be sealed anew, and the old keys stay as long.
func TestRotateWhileLocked(t *testing.T) {
	s := site(t, "worker_users = 1\n")
	maildir(t, filepath.Join(s.Store, "alice"), 10)
	s.Serve(t)
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	converted(t, s, "alice")
	s.Lock(t, "alice")
	if r := s.Call(t, nil, "rotate", "alice", "--wait"); r.Code != 75 {
		t.Errorf("rotate: %d: %s%s", r.Code, r.Out, r.Err)
	}
	if r := s.Call(t, nil, "encrypt", "alice", "--wait"); r.Code != 0 {
		t.Errorf("encrypt: %d: %s%s", r.Code, r.Out, r.Err)
	}
	s.Unlock(t, "alice")
	content, err := os.ReadFile(anyMessage(t, filepath.Join(s.View, "alice/cur")))
	if err != nil || !bytes.Contains(content, []byte(textMarker)) {
		t.Errorf("%v, %d bytes", err, len(content))
	}
	if r := s.Call(t, nil, "rotate", "alice", "--wait"); r.Code != 0 {
		t.Errorf("rotate of an unlocked user: %d: %s%s", r.Code, r.Out, r.Err)
	}
}
