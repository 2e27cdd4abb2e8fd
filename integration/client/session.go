package client

import (
	"strings"
	"testing"
)

// Session carries out commands of one user in one IMAP session, for as long as the server lets it live, and then in
// another, with the same folder open.
type Session struct {
	Enter  func() *IMAP // begins a session
	Folder string       // the command that opens the current folder in a new session
	c      *IMAP
}

// Do carries out a command and returns everything that was said, in lines; "CLOSED" is the last one if the connection is
// gone.
func (s *Session) Do(t testing.TB, command string) string {
	t.Helper()
	if s.c == nil {
		s.c = s.Enter()
		if s.Folder != "" {
			s.c.OK(t, "%s", s.Folder)
		}
	}
	switch verb, _, _ := strings.Cut(command, " "); verb {
	case "SELECT", "EXAMINE":
		s.Folder = command
	case "CLOSE", "UNSELECT":
		s.Folder = ""
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
	return &Session{Enter: s.Enter, Folder: strings.Replace(s.Folder, "SELECT", "EXAMINE", 1)}
}

// Close ends the session without a word; the next command begins another.
func (s *Session) Close() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
}
