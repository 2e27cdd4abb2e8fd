package client

import (
	"strings"
	"testing"
)

// Session carries out commands of one user in one IMAP session, for as long as the server lets it live, and then in
// another, with the same folder open.
type Session struct {
	Enter  func() *IMAP // begins a session
	folder string       // the command that opens the current folder in a new session
	c      *IMAP
}

// Do carries out a command and returns everything that was said, in lines; "CLOSED" is the last one if the connection is
// gone.
func (s *Session) Do(t testing.TB, command string) string {
	t.Helper()
	if s.c == nil {
		s.c = s.Enter()
		if s.folder != "" {
			s.c.OK(t, "%s", s.folder)
		}
	}
	switch verb, _, _ := strings.Cut(command, " "); verb {
	case "SELECT", "EXAMINE":
		s.folder = command
	case "CLOSE", "UNSELECT":
		s.folder = ""
	}
	all, err := s.c.Do(command)
	if err != nil {
		s.Close()
		all = append(all, "CLOSED")
	}
	return strings.Join(all, "\n")
}

// Examine is the Session in which the same folder is open for reading alone.
func (s *Session) Examine() *Session {
	return &Session{Enter: s.Enter, folder: strings.Replace(s.folder, "SELECT", "EXAMINE", 1)}
}

// Close ends the session without a word; the next command begins another.
func (s *Session) Close() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
}
