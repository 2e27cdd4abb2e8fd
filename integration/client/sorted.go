package client

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Sorted is mail that a Sieve script files by its subject, and what of it was delivered so far: to each of some users, once
// for each time that it says so.
type Sorted struct {
	prefix string // of the names of all folders but INBOX
	want   map[string]int
	rounds int
}

// NewSorted is mail for folders whose names begin with a prefix, unless they are INBOX.
func NewSorted(prefix string) *Sorted { return &Sorted{prefix: prefix, want: map[string]int{}} }

// Script is the Sieve script.
func (s *Sorted) Script() string {
	return strings.ReplaceAll(`require ["fileinto", "mailbox", "imap4flags"];
if header :contains "Subject" "to-work" { fileinto "@Work"; }
elsif header :contains "Subject" "to-new" { fileinto :create "@Made.By Sieve"; }
elsif header :contains "Subject" "to-flags" { setflag ["\\Flagged", "$Label1", "custom"]; keep; }
elsif header :contains "Subject" "flags-new" { setflag ["\\Seen", "other"]; fileinto :create "@Flags"; }
`, "@", s.prefix)
}

// folderOf is where the script files a message.
func (s *Sorted) folderOf(subject string) string {
	switch {
	case strings.HasPrefix(subject, "to-work"):
		return s.prefix + "Work"
	case strings.HasPrefix(subject, "flags-new"):
		return s.prefix + "Flags"
	case strings.HasPrefix(subject, "to-new"):
		return s.prefix + "Made.By Sieve"
	}
	return "INBOX"
}

// Deliver delivers one message.
func (s *Sorted) Deliver(subject string, lines int, deliver func(message string)) {
	s.want[subject]++
	deliver(Message(subject, lines))
}

// Round delivers messages to every folder, a large one, and many at the same time; deliver may be called by several
// goroutines. The folder Work has to be there.
func (s *Sorted) Round(name string, deliver func(message string)) {
	s.rounds++
	for _, subject := range []string{"plain", "to-work", "to-new", "to-flags", "flags-new"} {
		s.Deliver(subject+" "+name, 3, deliver)
	}
	s.Deliver("large "+name, 5000, deliver)
	var all sync.WaitGroup
	for i := range 20 {
		subject := fmt.Sprintf("parallel %d %s", i, name)
		s.want[subject]++
		all.Go(func() { deliver(Message(subject, 3*i)) })
	}
	all.Wait()
}

// Arrived checks in a session of one of the users that each message is there once, whole, and in its folder with its
// flags. bodies are what [IMAP.Bodies] gives.
func (s *Sorted) Arrived(t testing.TB, c *IMAP, bodies map[string]string) {
	t.Helper()
	got := map[string]int{}
	for place, text := range bodies {
		subject, whole := Recognise(text)
		got[subject]++
		folder, _, _ := strings.Cut(place, "/")
		if want := s.folderOf(subject); folder != want {
			t.Errorf("%q is in %s, not in %s", subject, folder, want)
		}
		if !whole {
			t.Errorf("%q is damaged: %.500q", subject, text)
		}
	}
	for subject, n := range s.want {
		if got[subject] != n {
			t.Errorf("%q: %d times, want %d", subject, got[subject], n)
		}
	}
	if len(got) != len(s.want) {
		t.Errorf("%d subjects, want %d", len(got), len(s.want))
	}
	for _, x := range []struct{ folder, search string }{
		{"INBOX", "FLAGGED KEYWORD $Label1 KEYWORD custom"}, {"INBOX", "FLAGGED"},
		{s.prefix + "Flags", "SEEN KEYWORD other"}, {s.prefix + "Work", "ALL"},
	} {
		c.OK(t, "EXAMINE %q", x.folder)
		if found := strings.Fields(c.OK(t, "SEARCH %s", x.search)[0])[2:]; len(found) != s.rounds {
			t.Errorf("%s in %s: %q, want %d", x.search, x.folder, found, s.rounds)
		}
	}
}

// Recognise tells the subject of a text that [IMAP.Bodies] gives, and whether it ends with the whole Message: servers add
// fields before it.
func Recognise(text string) (subject string, whole bool) {
	_, rest, _ := strings.Cut(text, "Subject: ")
	subject, _, _ = strings.Cut(rest, "\r\n")
	return subject, strings.HasSuffix(strings.TrimSuffix(text, ")"), CRLF(Message(subject, strings.Count(text, "line "))))
}

// Populate fills a mailbox in a session of its user: folders, a renamed one, flags, keywords, dates, subscriptions, and a
// missing UID. It returns how many messages there are then.
func (s *Sorted) Populate(t testing.TB, c *IMAP, deliver func(message string)) int {
	t.Helper()
	say := func(commands ...string) {
		t.Helper()
		for _, command := range commands {
			c.OK(t, "%s", strings.ReplaceAll(command, "@", s.prefix))
		}
	}
	say("CREATE @Work", "CREATE @Old.Name", "CREATE @Empty", "RENAME @Old.Name @New.Name", "SUBSCRIBE @Work", "SUBSCRIBE @New.Name")
	for i, subject := range []string{"plain", "to-work", "to-flags", "flags-new"} {
		for j := range 3 {
			deliver(Message(fmt.Sprintf("%s %d", subject, j), 40*i*j))
		}
	}
	for range 3 {
		c.Append(t, s.prefix+"New.Name", "(\\Answered $Later) \"05-Mar-2011 07:08:09 +0100\" ", CRLF(Message("appended", 200)))
	}
	say("SELECT @New.Name", "STORE 2 +FLAGS (\\Deleted)", "EXPUNGE", "SELECT INBOX", "STORE 1 +FLAGS (\\Draft keyword-of-mine)", "CLOSE")
	return 4*3 + 3 - 1
}
