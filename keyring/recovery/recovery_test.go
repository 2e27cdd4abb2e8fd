package recovery

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

const alice account.User = "alice@example.org"

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func key(tb testing.TB, hybrid bool) (Recipient, []age.Identity) {
	tb.Helper()
	var b bytes.Buffer
	r, err := Generate(&b, hybrid)
	must(tb, err)
	ids, err := ReadIdentities(&b)
	must(tb, err)
	if got, ok := RecipientOf(ids[0]); !ok || got != r || len(ids) != 1 {
		tb.Fatalf("%d identities of %s", len(ids), got)
	}
	return r, ids
}

func identity(tb testing.TB) *slot.Identity {
	tb.Helper()
	id, err := slot.NewIdentity()
	must(tb, err)
	tb.Cleanup(id.Wipe)
	return id
}

func seedOf(tb testing.TB, id *slot.Identity) []byte {
	tb.Helper()
	var out []byte
	must(tb, id.Use(func(b []byte) error { out = bytes.Clone(b); return nil }))
	return out
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	for _, hybrid := range []bool{false, true} {
		r, _ := key(t, hybrid)
		again, err := ParseRecipient(" " + r.String() + "\n")
		if err != nil || again != r || again.Hybrid() != hybrid || len(again.Short()) > 40 {
			t.Errorf("%v, %v", again, err)
		}
	}
	for _, s := range []string{"", "age1", "age1pq1", "AGE-SECRET-KEY-1", "ssh-ed25519 AAAA", "age1" + strings.Repeat("q", 58)} {
		if _, err := ParseRecipient(s); !errors.Is(err, ErrRecipient) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestReadIdentitiesRefuses makes sure that no part of a mistyped key is told.
func TestReadIdentitiesRefuses(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	r, err := Generate(&b, false)
	must(t, err)
	file := b.String()
	private := file[strings.Index(file, "AGE-SECRET"):]
	for name, tt := range map[string]struct{ file, hint string }{
		"empty":     {"", "no key"},
		"comment":   {"# nothing\n", "no key"},
		"public":    {r.String() + "\n", "public half"},
		"cut":       {private[:40] + "\n", "mistyped or cut"},
		"mistyped":  {private[:30] + "1" + private[31:], "mistyped or cut"},
		"encrypted": {"age-encryption.org/v1\n-> scrypt x 18\n", "decrypt it"},
		"armoured":  {"-----BEGIN AGE ENCRYPTED FILE-----\n", "decrypt it"},
		"plugin":    {"AGE-PLUGIN-YUBIKEY-1QQQQ\n", "plugin"},
		"too large": {strings.Repeat("#\n", maxIdentities), "64 KiB"},
		"other":     {"hello\n", "line 1"},
	} {
		_, err := ReadIdentities(strings.NewReader(tt.file))
		if !errors.Is(err, ErrIdentities) || !strings.Contains(err.Error(), tt.hint) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), private[15:25]) || strings.Contains(err.Error(), "hello")) {
			t.Errorf("%s: the file is quoted: %v", name, err)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, hybrid := range []bool{false, true} {
		r, ids := key(t, hybrid)
		_, strangers := key(t, hybrid)
		_, others := key(t, !hybrid)
		id := identity(t)
		at := slot.Place{User: alice, Kind: slot.KindRecovery, Slot: slot.ID{1}}
		w, err := Wrap(id, r, at)
		must(t, err)
		if len(w) > MaxWrapped/2 {
			t.Errorf("%d bytes", len(w))
		}
		got, err := Unwrap(w, append(strangers, ids...), at, id.Public().Bytes())
		must(t, err)
		if !bytes.Equal(seedOf(t, got), seedOf(t, id)) {
			t.Error("another identity came out")
		}
		got.Wipe()
		public := id.Public().Bytes()
		flipped := bytes.Clone(w)
		flipped[len(w)-1] ^= 1
		for name, tt := range map[string]struct {
			w      []byte
			ids    []age.Identity
			at     slot.Place
			public []byte
			want   error
		}{
			"stranger":       {w, strangers, at, public, ErrNoMatch},
			"other kind":     {w, others, at, public, ErrNoMatch},
			"nobody":         {w, nil, at, public, ErrNoMatch},
			"other user":     {w, ids, slot.Place{User: "bob", Kind: at.Kind, Slot: at.Slot}, public, slot.ErrWrongSecret},
			"longer user":    {w, ids, slot.Place{User: alice + "x", Kind: at.Kind, Slot: at.Slot}, public, slot.ErrWrongSecret},
			"other slot":     {w, ids, slot.Place{User: alice, Kind: at.Kind}, public, slot.ErrWrongSecret},
			"other identity": {w, ids, at, identity(t).Public().Bytes(), slot.ErrForeign},
			"flipped":        {flipped, ids, at, public, slot.ErrWrongSecret},
			"cut":            {w[:len(w)-1], ids, at, public, slot.ErrWrongSecret},
			"empty":          {nil, ids, at, public, slot.ErrWrongSecret},
		} {
			if _, err := Unwrap(tt.w, tt.ids, tt.at, tt.public); !errors.Is(err, tt.want) {
				t.Errorf("hybrid %v, %s: %v", hybrid, name, err)
			}
		}
	}
}

func requestFor(t *testing.T, id *slot.Identity, u account.User, to ...Recipient) (*Request, *Pending) {
	t.Helper()
	var slots []Slot
	for i, r := range to {
		s := Slot{ID: slot.ID{byte(i)}, Recipient: r.String()}
		var err error
		s.Wrapped, err = Wrap(id, r, slot.Place{User: u, Kind: slot.KindRecovery, Slot: s.ID})
		must(t, err)
		slots = append(slots, s)
	}
	r, p, err := NewRequest(StoreID{7}, u, id.Public().Bytes(), slots, "root", begin)
	must(t, err)
	t.Cleanup(p.Wipe)
	return r, p
}

// carried sends texts through a medium that is not careful.
func carried(text []byte) []byte {
	s := "Dear colleague,\r\n\r\n" + strings.ReplaceAll(string(text), "\n", "\r\n") + "\r\n-- \r\nme"
	return []byte(s)
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for _, u := range []account.User{alice, "caf\xe9", "a\"b\\c"} {
		first, _ := key(t, false)
		second, ids := key(t, true)
		id := identity(t)
		r, p := requestFor(t, id, u, first, second)
		text, err := r.Encode()
		must(t, err)
		there, err := ParseRequest(carried(text))
		must(t, err)
		a, err := r.Fingerprint()
		must(t, err)
		b, err := there.Fingerprint()
		must(t, err)
		if a != b || len(a) != 24 {
			t.Errorf("fingerprints %s and %s", a, b)
		}
		if there.User != u || there.By != "root" || !there.Created.Equal(begin) || !there.Expires.Equal(begin.Add(Lifetime)) {
			t.Errorf("%+v", there)
		}
		answer, err := Approve(there, ids, begin.Add(Lifetime))
		must(t, err)
		text, err = answer.Encode()
		must(t, err)
		if bytes.Contains(text, seedOf(t, id)) {
			t.Error("the answer tells the identity")
		}
		back, err := ParseAnswer(carried(text))
		must(t, err)
		kept, err := p.Encode()
		must(t, err)
		again, err := ParsePending(kept)
		must(t, err)
		got, err := again.Apply(back, begin.Add(time.Hour))
		must(t, err)
		if !bytes.Equal(seedOf(t, got), seedOf(t, id)) {
			t.Error("another identity came out")
		}
		got.Wipe()
		// Applying failed to lead to anything: it can be repeated until it is spent.
		got, err = again.Apply(back, begin.Add(time.Hour))
		must(t, err)
		got.Wipe()
		again.Spend(begin)
		if _, err := again.Apply(back, begin); !errors.Is(err, ErrReplayed) {
			t.Errorf("replayed: %v", err)
		}
		spent, err := again.Encode()
		must(t, err)
		if bytes.Contains(spent, []byte("seed")) {
			t.Error("a spent request has a private half")
		}
		third, err := ParsePending(spent)
		must(t, err)
		if _, err := third.Apply(back, begin); !errors.Is(err, ErrReplayed) || !third.Used.Equal(begin) {
			t.Errorf("replayed from the file: %v", err)
		}
	}
}

func TestAnswerErrors(t *testing.T) {
	t.Parallel()
	r, ids := key(t, false)
	_, strangers := key(t, false)
	id := identity(t)
	req, pending := requestFor(t, id, alice, r)
	_, other := requestFor(t, id, alice, r)
	answer, err := Approve(req, ids, begin)
	must(t, err)

	if _, err := Approve(req, strangers, begin); !errors.Is(err, ErrNoMatch) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := Approve(req, ids, begin.Add(Lifetime+time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("too late: %v", err)
	}
	if _, _, err := NewRequest(StoreID{}, alice, id.Public().Bytes(), nil, "root", begin); !errors.Is(err, ErrNoMatch) {
		t.Errorf("no slots: %v", err)
	}
	renamed := *req
	renamed.User = "bob"
	if _, err := Approve(&renamed, ids, begin); !errors.Is(err, slot.ErrWrongSecret) {
		t.Errorf("the slots of another user: %v", err)
	}
	swapped := *req
	swapped.Identity = identity(t).Public().Bytes()
	if _, err := Approve(&swapped, ids, begin); !errors.Is(err, slot.ErrForeign) {
		t.Errorf("another identity: %v", err)
	}

	change := func(f func(a *Answer)) *Answer {
		a := *answer
		a.Sealed = bytes.Clone(a.Sealed)
		f(&a)
		return &a
	}
	for name, tt := range map[string]struct {
		p    *Pending
		a    *Answer
		now  time.Time
		want error
	}{
		"other request":        {other, answer, begin, ErrOtherRequest},
		"other request, faked": {other, change(func(a *Answer) { a.Request = other.ID }), begin, ErrForeign},
		"other user":           {pending, change(func(a *Answer) { a.User = "bob" }), begin, ErrForeign},
		"other store":          {pending, change(func(a *Answer) { a.Store[0]++ }), begin, ErrForeign},
		"flipped":              {pending, change(func(a *Answer) { a.Sealed[9] ^= 1 }), begin, ErrForeign},
		"too late":             {pending, answer, begin.Add(Lifetime + time.Second), ErrExpired},
	} {
		if _, err := tt.p.Apply(tt.a, tt.now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTexts cuts and changes every kind of text.
func TestTexts(t *testing.T) {
	t.Parallel()
	r, ids := key(t, false)
	req, pending := requestFor(t, identity(t), alice, r)
	answer, err := Approve(req, ids, begin)
	must(t, err)
	shares, err := Split([]byte("secret"), 3, 2)
	must(t, err)
	encoded := func(b []byte, err error) []byte { must(t, err); return b }
	texts := map[kind][]byte{
		kindRequest: encoded(req.Encode()), kindAnswer: encoded(answer.Encode()), kindPending: encoded(pending.Encode()), kindShare: shares[0],
	}
	parse := map[kind]func(b []byte) error{
		kindRequest: func(b []byte) error { _, err := ParseRequest(b); return err },
		kindAnswer:  func(b []byte) error { _, err := ParseAnswer(b); return err },
		kindPending: func(b []byte) error { _, err := ParsePending(b); return err },
		kindShare:   func(b []byte) error { _, err := ReadShare(b); return err },
	}
	for k, text := range texts {
		must(t, parse[k](text))
		begun := strings.Index(string(text), "\n") + 1
		for at := 0; at < len(text); at += 1 + len(text)/300 {
			want := ErrKind
			if at >= begun {
				want = ErrTruncated
			}
			if at >= len(text)-1 {
				break // nothing but the last newline is missing
			}
			if err := parse[k](text[:at]); !errors.Is(err, want) {
				t.Fatalf("%s cut at %d of %d: %v", k, at, len(text), err)
			}
			if at < begun || at > len(text)-50 {
				continue
			}
			flipped := bytes.Clone(text)
			flipped[at] ^= 1
			if err := parse[k](flipped); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTruncated) {
				t.Fatalf("%s changed at %d: %v", k, at, err)
			}
		}
		for other := range texts {
			if other != k {
				if err := parse[other](text); !errors.Is(err, ErrKind) {
					t.Errorf("%s for %s: %v", k, other, err)
				}
			}
		}
		_, body, _ := strings.Cut(string(text), "\n")
		_, body, _ = strings.Cut(body, "\n")
		body = strings.TrimSuffix(body, k.end())
		for name, tt := range map[string]struct {
			body string
			want error
		}{
			"version 2":   {strings.Replace(body, "version = 1", "version = 2", 1), ErrKind},
			"unknown key": {"pepper = 1\n" + body, ErrDamaged},
			"not TOML":    {"[\n" + body, ErrDamaged},
			"empty":       {"", ErrKind},
		} {
			if err := parse[k](armour(k, []byte(tt.body))); !errors.Is(err, tt.want) && !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: %v", k, name, err)
			}
		}
		if err := parse[k](bytes.Repeat([]byte("x"), maxText+1)); !errors.Is(err, ErrKind) {
			t.Errorf("%s, too large: %v", k, err)
		}
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	classic, classicIDs := key(t, false)
	hybrid, hybridIDs := key(t, true)
	_, strangers := key(t, true)
	s := bytes.Repeat([]byte{7}, 32)
	for name, to := range map[string][]Recipient{"classic": {classic}, "hybrid": {hybrid}, "both": {classic, hybrid}} {
		file, err := SealSite(s, to)
		must(t, err)
		for _, ids := range [][]age.Identity{classicIDs, hybridIDs} {
			r, _ := RecipientOf(ids[0])
			want := name == "both" || r == to[0]
			got, err := OpenSite(file, ids)
			if want && (err != nil || !bytes.Equal(got, s)) || !want && !errors.Is(err, ErrNoMatch) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := OpenSite(file, strangers); !errors.Is(err, ErrNoMatch) {
			t.Errorf("%s, a stranger: %v", name, err)
		}
		if _, err := OpenSite(file[:len(file)/3], classicIDs); !errors.Is(err, ErrEscrow) {
			t.Errorf("%s, cut: %v", name, err)
		}
	}
	if _, err := SealSite(s, nil); err == nil {
		t.Error("sealed to nobody")
	}
	other, err := encrypt([]byte("hello"), classic)
	must(t, err)
	if _, err := OpenSite(other, classicIDs); !errors.Is(err, ErrEscrow) {
		t.Errorf("binary: %v", err)
	}
}
