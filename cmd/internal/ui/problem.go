// Package ui is the only code of mailcryptfs that talks to people: messages with a next step, exit codes, prompts,
// tables and JSON. Data goes to standard output, everything else to standard error.
package ui

import (
	"errors"
	"fmt"
	"strings"
)

// Exit codes, those of sysexits.h (sysexits(3head)).
const (
	ExitOK          = 0  // it was done
	ExitUsage       = 64 // EX_USAGE: wrong verb, flag or argument
	ExitDataErr     = 65 // EX_DATAERR: damage was found
	ExitNoInput     = 66 // EX_NOINPUT: a file that was named is not there
	ExitNoUser      = 67 // EX_NOUSER: the user is not enrolled
	ExitUnavailable = 69 // EX_UNAVAILABLE: no daemon answers
	ExitSoftware    = 70 // EX_SOFTWARE: a bug
	ExitOSErr       = 71 // EX_OSERR: the system refused (mount, memory)
	ExitCantCreate  = 73 // EX_CANTCREAT: something is there already
	ExitIOErr       = 74 // EX_IOERR: reading or writing failed
	ExitTempFail    = 75 // EX_TEMPFAIL: try again later
	ExitNoPerm      = 77 // EX_NOPERM: not root, or a wrong password
	ExitConfig      = 78 // EX_CONFIG: the configuration cannot work
)

// Problem is an error with an exit code and the next step for whoever reads it. Err says what happened to which user or
// file; Next is a command or an instruction, or empty.
type Problem struct {
	Code int
	Err  error
	Next string
}

// Error gives the message of Err.
func (p *Problem) Error() string { return p.Err.Error() }

// Unwrap gives Err.
func (p *Problem) Unwrap() error { return p.Err }

// Fail makes a Problem; next may be empty.
func Fail(code int, next string, err error) *Problem {
	return &Problem{Code: code, Err: err, Next: next}
}

// Failf is Fail with a formatted error; %w works.
func Failf(code int, next, format string, args ...any) *Problem {
	return Fail(code, next, fmt.Errorf(format, args...))
}

// ExitCode returns the code of the outermost Problem in err, 0 for nil, and ExitSoftware for an error of no kind.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	var p *Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ExitSoftware
}

// Message writes err as people read it: the program's name before the first line, the next step on a line of its own.
func Message(err error) string {
	var b strings.Builder
	text := strings.ReplaceAll(strings.TrimRight(err.Error(), "\n"), "\n", "\n             ")
	b.WriteString("mailcryptfs: " + text + "\n")
	var p *Problem
	if errors.As(err, &p) && p.Next != "" {
		b.WriteString("       next: " + strings.ReplaceAll(p.Next, "\n", "\n             ") + "\n")
	}
	return b.String()
}
