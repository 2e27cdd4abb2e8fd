package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/control"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
)

func TestWayBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		s    control.Survey
		want string
	}{
		{control.Survey{NoWay: true}, "none: a lost password loses the mail"},
		{control.Survey{Codes: 1, Keys: 2}, "recovery code (1), recovery keys (2)"},
		{control.Survey{Retired: 1}, "retired recovery keys (1)"},
		{control.Survey{Problem: "damaged key record"}, "damaged key record"},
	} {
		if got := wayBack(&tt.s); got != tt.want {
			t.Errorf("%+v: %q", tt.s, got)
		}
	}
}

func TestRecoveryRows(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	rows := recoveryRows(control.RecoveryStatus{Policy: "required", Recipients: 2, Missing: 3, NoWay: 1, Rotating: 4, Problem: "disk on fire"})
	rows = append(rows, wayBackRows(&control.Survey{Codes: 1, Missing: []string{"a"}, Rotation: &control.Rotation{Keys: 2, Pending: true, Need: "the user has to log in"}})...)
	rows = append(rows, eventRows([]control.Event{{Time: time.Unix(0, 0), What: "recover", By: "x", Cause: "recovery key", Peer: "uid 0\x1b", Detail: "d"}})...)
	if err := ui.Table(&b, []string{"A", "B"}, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"required, 2 recovery keys", "3 users miss a recovery key", "1 users have no way back", "4 users get new keys", "disk on fire",
		"recovery code (1)", "1 recovery keys do not open it yet", "2 old ones are left, and the identity; the user has to log in",
		`recover, by x, with recovery key, from uid 0\u001b, d`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}

func TestHalves(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"AAAA-BBBB-CCCC-DDDD": "AAAA-BBBB\nCCCC-DDDD\n", "AAAA": "AAAA\n", "A-B": "A\nB\n",
	} {
		if got := string(halves([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
