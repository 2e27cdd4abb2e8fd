package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/config"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func TestParseSince(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.Local)
	for _, tt := range []struct {
		in   string
		want time.Time
	}{
		{"", time.Time{}},
		{"90m", now.Add(-90 * time.Minute)},
		{"7d", now.AddDate(0, 0, -7)},
		{"2026-01-31", time.Date(2026, 1, 31, 0, 0, 0, 0, time.Local)},
		{"2026-01-31T12:30", time.Date(2026, 1, 31, 12, 30, 0, 0, time.Local)},
		{"2026-01-31 12:30:10", time.Date(2026, 1, 31, 12, 30, 10, 0, time.Local)},
		{"2026-01-31T12:30:10+02:00", time.Date(2026, 1, 31, 10, 30, 10, 0, time.UTC)},
	} {
		if got, err := parseSince(tt.in, now); err != nil || !got.Equal(tt.want) {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
	for _, in := range []string{"yesterday", "-3h", "-3d", "d", "70000d", "2026-13-01"} {
		if got, err := parseSince(in, now); err == nil {
			t.Errorf("%q was taken as %v", in, got)
		}
	}
}

// loggedStore writes a configuration, a site secret and a store with some events.
func loggedStore(t *testing.T) (conf string, c config.Config) {
	t.Helper()
	conf = configFile(t, "")
	c, err := config.Load(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.Store, ".mailcryptfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := site.Generate(c.SiteSecret); err != nil {
		t.Fatal(err)
	}
	keys, err := site.Load(c.SiteSecret)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Wipe()
	l, err := audit.Open(c.Store, keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []audit.Event{
		{Time: time.Now().Add(-48 * time.Hour), User: "alice", What: audit.Enroll, By: "root"},
		{User: "alice", What: audit.Unlock, Cause: "login", Peer: "imap", By: "PAM module"},
		{User: "bob\x1b[2J", What: audit.SlotAdd, Detail: "telephone\nof bob"},
	} {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return conf, c
}

func TestLog(t *testing.T) {
	t.Parallel()
	conf, c := loggedStore(t)
	out, stderr, code := call(t, "log", "--config", conf)
	for _, want := range []string{"log-begin", "enroll           alice  by=root", "unlock           alice  by='PAM module'  cause=login  peer=imap",
		`slot-add         bob\u001b[2J`, `telephone\u000aof bob`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if code != 0 || stderr != "" || strings.Count(out, "\n") != 4 {
		t.Errorf("exit %d, %s\n%s", code, stderr, out)
	}
	out, _, code = call(t, "log", "alice", "--since", "1h", "--json", "--config", conf)
	var e audit.Event
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 0 || e.What != audit.Unlock || e.User != "alice" || e.Host == "" {
		t.Errorf("exit %d, %v, %s", code, err, out)
	}
	if out, _, code = call(t, "log", "carol", "--config", conf); code != 0 || out != "" {
		t.Errorf("exit %d, %s", code, out)
	}
	segments, err := filepath.Glob(filepath.Join(c.Store, ".mailcryptfs", "audit", "*.log"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("%v, %v", segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segments[0], bytes.Replace(b, []byte("alice"), []byte("carol"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, code = call(t, "log", "--config", conf)
	if code != 65 || !strings.Contains(stderr, "line 2: it does not authenticate") || strings.Contains(out, "carol") || !strings.Contains(out, "bob") {
		t.Errorf("exit %d, %s\n%s", code, stderr, out)
	}
	for _, args := range [][]string{{"log", "--since", "soon"}, {"log", "a", "b"}, {"log", "/"}} {
		if _, stderr, code := call(t, append(args, "--config", conf)...); code != 64 {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
}
