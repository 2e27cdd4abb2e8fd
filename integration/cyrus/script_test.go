package cyrus

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// step is one thing that somebody does with a mailbox: an IMAP command, a delivery, or a program of Cyrus'.
type step struct {
	imap    string
	deliver string   // subject
	tool    []string // @ is the user
	opens   bool     // needs the text of messages
}

// appended is an APPEND of a message that is the same in every run.
func appended(folder, flags string) step {
	text := client.CRLF(client.Message("appended", 300))
	return step{imap: fmt.Sprintf("APPEND %s (%s) \"01-Feb-2003 04:05:06 +0200\" {%d+}\r\n%s", folder, flags, len(text), text)}
}

func script() []step {
	return []step{
		{imap: "CREATE INBOX.Work"}, {imap: "CREATE INBOX.A"}, {imap: "CREATE INBOX.A.B"}, {imap: "SUBSCRIBE INBOX.Work"},
		{deliver: "plain 1"}, {deliver: "to-work 1"}, {deliver: "to-new 1"}, {deliver: "to-flags 1"}, {deliver: "flags-new 1"},
		{imap: `LIST "" "*"`}, {imap: `LSUB "" "*"`}, {imap: "STATUS INBOX (MESSAGES UIDNEXT UNSEEN)"},
		{imap: "SELECT INBOX"}, {imap: "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)"},
		{imap: "FETCH 1:* (ENVELOPE BODYSTRUCTURE)"}, {imap: "FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", opens: true},
		{imap: "FETCH 1 BODY.PEEK[HEADER.FIELDS (REFERENCES X-PRIORITY)]"}, {imap: "FETCH 1 BODY.PEEK[HEADER]", opens: true}, {imap: "FETCH 1:* (BODY.PEEK[])", opens: true},
		{imap: "FETCH 2 BODY.PEEK[TEXT]<10.20>", opens: true}, {imap: "FETCH 1 BODY.PEEK[1]", opens: true},
		appended("INBOX", `\Flagged $Mine`), {imap: "NOOP"},
		{imap: "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)"},
		{imap: "SEARCH ALL"}, {imap: "SEARCH UNSEEN"}, {imap: "SEARCH KEYWORD custom"}, {imap: "SEARCH LARGER 1000"}, {imap: "SEARCH BEFORE 1-Jan-2020"},
		{imap: `SEARCH SUBJECT "plain"`}, {imap: `SEARCH FROM "sender@example.net"`},
		{imap: `SEARCH BODY "text of plain 1"`, opens: true}, {imap: `SEARCH TEXT "text of"`, opens: true},
		{imap: `SEARCH HEADER X-Unknown "x"`, opens: true}, {imap: `SEARCH CHARSET UTF-8 TEXT {6+}` + "\r\näöü", opens: true},
		{imap: "SORT (REVERSE SUBJECT) UTF-8 ALL"}, {imap: "THREAD REFERENCES UTF-8 ALL"},
		{imap: `STORE 1 +FLAGS (\Answered $Forwarded mykey)`}, {imap: `STORE 2 -FLAGS.SILENT (\Seen)`}, {imap: `STORE 3 FLAGS (\Draft)`},
		{imap: "COPY 1:2 INBOX.Work"}, {imap: "UID COPY 3 INBOX.Missing"}, {imap: "MOVE 3 INBOX.Work"}, appended("INBOX.Work", `\Draft`),
		{deliver: "plain 2"}, {deliver: "to-work 2"}, {deliver: "to-flags 2"}, {imap: "NOOP"},
		{imap: "SELECT INBOX.Work"},
		{imap: "UID FETCH 1:* (UID FLAGS RFC822.SIZE)"}, {imap: "UID FETCH 5 INTERNALDATE"},
		{imap: "UID FETCH 2:5 (BODY.PEEK[TEXT])", opens: true},
		{imap: `STORE 1,3 +FLAGS (\Deleted)`}, {imap: "UID EXPUNGE 1"}, {imap: "EXPUNGE"}, {imap: "CHECK"},
		{imap: "UID FETCH 1:* (FLAGS)"}, {imap: "CLOSE"},
		{tool: []string{"cyr_expire", "-E", "1", "-X", "0", "-D", "0"}}, {tool: []string{"reconstruct", "-r", "user.@"}},
		{tool: []string{"quota", "-f", "user.@"}},
		{imap: "CREATE INBOX.C.D"}, {imap: `CREATE "INBOX.&ANw-ber uns"`}, {imap: "RENAME INBOX.A INBOX.Z"}, {imap: "SUBSCRIBE INBOX.Z.B"}, {imap: `LSUB "" "*"`},
		{imap: "RENAME INBOX.Work INBOX.Z.Work"}, {imap: "UNSUBSCRIBE INBOX.Work"}, {imap: `LSUB "" "*"`}, {deliver: "to-work fails over"},
		{imap: "CREATE INBOX.Gone"}, appended("INBOX.Gone", ""), {imap: "DELETE INBOX.Gone"}, {imap: "STATUS INBOX.Gone (MESSAGES)"},
		{imap: `STATUS INBOX.Z.Work (MESSAGES UIDNEXT UNSEEN)`}, {imap: "SELECT INBOX.Z.Work"}, {imap: "FETCH 1:* BODY.PEEK[]", opens: true},
		{imap: "FETCH 1:* (UID FLAGS)"}, {imap: "UNSELECT"},
		{tool: []string{"reconstruct", "-r", "user.@"}}, {tool: []string{"cyr_expire", "-E", "1", "-X", "0", "-D", "0"}},
		{deliver: "plain after"}, {imap: "SELECT INBOX"}, {imap: "FETCH 1:* (UID FLAGS)"}, {imap: `STORE 1:2 +FLAGS (\Seen)`}, appended("INBOX", ""),
		{tool: []string{"quota", "-f", "user.@"}}, {imap: `LIST "" "*"`},
	}
}

func (s step) String() string {
	return fmt.Sprintf("%.60q", s.deliver+s.imap+strings.Join(s.tool, " "))
}

// modes are how a user's key comes and goes during a test.
var modes = []string{"locked", "unlocked", "cycle"}

// keys says when a user of a mode is unlocked.
func keys(mode string, i, n int) (unlocked bool) {
	return mode == "unlocked" || mode == "cycle" && i >= n/3 && i < 2*n/3
}

// TestScript runs the same commands on plain ext4 and on the view, in each mode, and wants the same answers, the same
// mailbox at the end, and no other complaints from Cyrus.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, l := range []layout{legacy, uuid} {
		t.Run(string(l), func(t *testing.T) {
			t.Parallel()
			plain := plainHost(t, l, modes...)
			plain.script(t, modes...)
			s := newSite(t, options{layout: l}, modes...)
			s.script(t, modes...)
			for _, mode := range modes {
				t.Run(mode, func(t *testing.T) { (&play{steps: script(), user: mode, plain: plain}).perform(t, s) })
			}
		})
	}
}

// play is a script, and where it runs on plain ext4.
type play struct {
	steps []step
	user  string
	plain *host
}

// perform runs the script on ext4 and on a view, side by side.
func (p *play) perform(t *testing.T, s *site) {
	t.Helper()
	model, r := newRun(t, p.plain, p.user), newRun(t, s.host, p.user)
	unlocked := false
	turn := func(to bool) {
		if to && !unlocked {
			s.Unlock(t, p.user)
		} else if !to && unlocked {
			s.Lock(t, p.user)
		}
		unlocked = to
	}
	for i, step := range p.steps {
		turn(keys(p.user, i, len(p.steps)))
		want := model.step(step)
		if step.opens && refused(want) {
			t.Fatalf("%s is refused on ext4: %q", step, want)
		}
		if step.opens && !unlocked {
			s.sealed(t, p.user)
			got := r.step(step)
			if got = nothing.ReplaceAllString(got, ""); got != "" {
				t.Errorf("%s of a locked user: %q", step, got)
			}
		} else if got := r.step(step); got != want {
			t.Errorf("%s\n     got %q\non ext4 %q", step, got, want)
		}
	}
	turn(true)
	client.Same(t, "the mailbox at the end", stable(p.plain.snapshot(t, p.user)), stable(s.snapshot(t, p.user)))
	want, got := p.plain.bodies(t, p.user), s.bodies(t, p.user)
	for place, text := range want {
		if stable(text) != stable(got[place]) {
			t.Errorf("%s: %q, on ext4 %q", place, got[place], text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages, on ext4 %d", len(got), len(want))
	}
	s.judgeLog(t, p.plain.complaints(t))
}

// nothing matches what a locked user gets of messages: that they are not there, and no hit in a search. The command
// itself ends with OK.
var nothing = regexp.MustCompile(`\* OK Message \d+ no longer exists\n|\* SEARCH\n|OK Completed \([^\n]*\)$`)

// run carries out the script as one user.
type run struct {
	t       testing.TB
	h       *host
	user    string
	session *client.Session
}

func newRun(t testing.TB, h *host, user string) *run {
	return &run{t: t, h: h, user: user, session: &client.Session{Enter: func() *client.IMAP { return h.enter(t, user) }}}
}

// step carries out one step and returns the answer, as far as it is the same in every run.
func (r *run) step(s step) string {
	r.t.Helper()
	switch {
	case s.deliver != "":
		return strings.Join(r.h.begin(r.t, r.user).Data(r.t, client.Message(s.deliver, 20)), " ")
	case s.tool != nil:
		var argv []string
		for _, a := range s.tool {
			argv = append(argv, strings.ReplaceAll(a, "@", r.user))
		}
		out, ok := r.h.tool(r.t, argv...)
		return fmt.Sprint(ok, " ", stable(out))
	}
	return stable(r.session.Do(r.t, s.imap))
}

// refused says whether an answer to a command is an error.
func refused(answer string) bool {
	last := answer[strings.LastIndexByte(answer, '\n')+1:]
	return strings.HasPrefix(last, "NO ") || strings.HasPrefix(last, "BAD ") || last == "CLOSED"
}

// passing is what differs from run to run: times, random numbers, and what is made of them.
var passing = []struct {
	expr *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`UIDVALIDITY \d+`), "UIDVALIDITY *"},
	{regexp.MustCompile(`(APPENDUID|COPYUID) \d+`), "$1 *"},
	{regexp.MustCompile(`MAILBOXID \([^)]*\)`), "MAILBOXID *"},
	{regexp.MustCompile(`INTERNALDATE "[^"]*20[2-9]\d[^"]*"`), "INTERNALDATE *"},
	{regexp.MustCompile(`RFC822.SIZE \d+`), "RFC822.SIZE *"}, // Cyrus adds random numbers to messages
	{regexp.MustCompile(`\{\d+\}`), "{*}"},
	{regexp.MustCompile(`\t [A-Z][a-z][a-z], \d.*`), "*"},
	{regexp.MustCompile(`X-Cyrus-Session-Id: .*`), "*"},
	{regexp.MustCompile(`\("TEXT" "PLAIN" [^)]*\) NIL NIL "8BIT" \d+`), "TEXT *"},
	{regexp.MustCompile(`\d+\.\d+ secs?`), "* secs"},
}

func stable(text string) string {
	for _, p := range passing {
		text = p.expr.ReplaceAllString(text, p.with)
	}
	return text
}
