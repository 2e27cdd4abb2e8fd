package route

import (
	"errors"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

func TestParseHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, name, id string }{
		{"%(T e N user.alice I ab12 Q user.alice A %(alice lrswipkxtecdan) U (a b))\n", "user.alice", "ab12"},
		{"%(A %(alice \"lr )\" bob {3}\r\n)(\" x y) U (NIL () (a)) N user.alice.Sent I ab12)\n", "user.alice.Sent", "ab12"},
		{"%(T e N \"example.org!user.a b\" I ab12)", "example.org!user.a b", "ab12"},
		{"%(T \"\" N {8}\r\nuser.\"\\x I ab12)", "user.\"\\x", "ab12"},
		{"%(N {3+}\r\na b I \"q\\\"q\")", "a b", "q\"q"},
		{"%(I ab12 N user.x", "", ""}, // the end of the name cannot be told
		{"%(I ab12 N user.x)", "user.x", "ab12"},
	} {
		h, err := ParseHeader([]byte(headerMagic + tt.text))
		if tt.name == "" {
			if !errors.Is(err, ErrHeader) {
				t.Errorf("%q: %+v, %v", tt.text, h, err)
			}
			continue
		}
		if err != nil || h.Name != tt.name || h.ID != tt.id {
			t.Errorf("%q: %+v, %v", tt.text, h, err)
		}
	}
	for _, text := range []string{
		"", "%", "%(", "%()", "%(N", "%(N user.x)", "%(I ab12)", "%(N {99}\r\nx I ab12)", "%(N {x}\r\nx I ab12)", "%(N \"x", "%(N \"x\\",
		"%(N {-1}\r\n I x)", "%(X " + strings.Repeat("(", 100), "user.alice\tab12\n\nalice\tlrs\t\n", "%(N \"\" I x)",
	} {
		if h, err := ParseHeader([]byte(headerMagic + text)); !errors.Is(err, ErrHeader) {
			t.Errorf("%q: %+v, %v", text, h, err)
		}
		if _, err := ParseHeader([]byte(text)); !errors.Is(err, ErrHeader) {
			t.Errorf("%q without magic: %v", text, err)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add("%(T e N user.alice I ab12 A %(a {1}\r\nx) U (a \"b\\\"\"))")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParseHeader([]byte(headerMagic + text))
		if (err == nil) != (h.Name != "" && h.ID != "") {
			t.Errorf("%+v, %v", h, err)
		}
		p, err := New("cyrus", "%u", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := dir(p, "uuid/a/b/ab").As(&Mailbox{Name: h.Name})
		if d.Above() || d.Scratch() || !d.Box() {
			t.Errorf("%q: above %v, scratch %v, box %v", h.Name, d.Above(), d.Scratch(), d.Box())
		}
	})
}

func TestBoxes(t *testing.T) {
	t.Parallel()
	p := policy(t, "cyrus", "%u", nil, nil)
	box := dir(p, "uuid/a/b/ab12")
	if !box.Box() || box.User() != "" || dir(p, "uuid/a/b").Box() || dir(p, "uuid/a/b/ab12/x").Box() || dir(p, "user/alice").Box() {
		t.Error("boxes are the fourth level of uuid/, and nobody's")
	}
	for _, tt := range []struct {
		mailbox, file string
		user          account.User
		class         Class
	}{
		{"user.alice", "1.", "alice", Message},
		{"user.alice.Sent", "1.", "alice", Message},
		{"user.john^doe.x", "1.", "john.doe", Message},
		{"example.org!user.alice", "1.", "alice@example.org", Message},
		{"DELETED.user.alice.Sent.5F0A", "1.", "alice", Message},
		{"example.org!DELETED.user.alice.5F0A", "cyrus.squat", "alice@example.org", Private},
		{"user.alice.#sieve", "1.", "alice", Meta},
		{"DELETED.user.alice.#sieve.5F0A", "1.", "alice", Meta},
		{"user.alice", "cyrus.index", "alice", Meta},
		{"public", "1.", "", Message},
		{"public.user.bob", "1.", "", Message},
		{"a.user.bob", "1.", "", Message},
		{"user", "1.", "", Message},
		{"DELETED", "1.", "", Message},
		{"user..x", "1.", "", Message},
		{"stage..x", "1.", "", Message},
		{"uuid.a.b.c", "1.", "", Message},
	} {
		d := box.As(&Mailbox{Name: tt.mailbox, Former: []account.User{"carol"}})
		if d.User() != tt.user || d.Class(tt.file) != tt.class || !d.Box() || d.Above() || d.Former()[0] != "carol" {
			t.Errorf("%s: %q, class %d of %s", tt.mailbox, d.User(), d.Class(tt.file), tt.file)
		}
		if c := d.Child("sub"); c.User() != tt.user || c.Box() || c.Former()[0] != "carol" {
			t.Errorf("%s: below it %q, box %v", tt.mailbox, c.User(), c.Box())
		}
	}
}
