package client

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Folders are the names of all folders that match a pattern and can hold messages.
func (c *IMAP) Folders(t testing.TB, pattern string) (names []string) {
	t.Helper()
	for _, line := range c.OK(t, `LIST "" %q`, pattern) {
		if strings.Contains(line, `\Noselect`) {
			continue
		}
		_, name, found := strings.Cut(line, `"." `)
		if !found {
			t.Fatalf("LIST: %q", line)
		}
		names = append(names, strings.Trim(name, `"`))
	}
	return names
}

// Bodies are all messages of folders: "folder/uid" and the whole text. What the server said instead of a text is in
// refused; only the caller knows whether that may be.
func (c *IMAP) Bodies(t testing.TB, folders []string) (all map[string]string, refused []string) {
	t.Helper()
	all = map[string]string{}
	for _, folder := range folders {
		c.OK(t, "EXAMINE %q", folder)
		for _, line := range c.OK(t, "UID FETCH 1:* (UID BODY.PEEK[])") {
			_, rest, _ := strings.Cut(line, "UID ")
			uid, _, _ := strings.Cut(rest, " ")
			_, text, found := strings.Cut(rest, "}\r\n")
			if !found {
				refused = append(refused, folder+": "+line)
				continue
			}
			all[folder+"/"+uid] = text
		}
	}
	return all, refused
}

// Announced checks that deliveries to the selected folder, which has one message, are announced to this session at once.
// A busy machine may need longer once, not each time.
func (c *IMAP) Announced(t testing.TB, user string, deliver func()) {
	t.Helper()
	c.Idle(t)
	const atOnce = 2 * time.Second
	best := Patience
	for n := 2; n <= 6 && best > atOnce; n++ {
		deliver()
		began := time.Now()
		for line := ""; line != fmt.Sprintf("* %d EXISTS\r\n", n); {
			var err error
			if line, err = c.Line(); err != nil {
				t.Fatalf("%s: %v", user, err)
			}
		}
		best = min(best, time.Since(began))
	}
	if best > atOnce {
		t.Errorf("%s: a message was announced after %v", user, best)
	}
}

// Same fails the test where two texts differ, with the lines that do.
func Same(t testing.TB, what, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("%s: no longer: %q", what, line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("%s: new: %q", what, line)
		}
	}
	if !t.Failed() {
		t.Errorf("%s: another order:\n%s\n\n%s", what, want, got)
	}
}
