package dovecot

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// step is one line of the script: a delivery, or a command of IMAP or POP3. For what needs the text of a message opens is
// set; a locked user must be refused that, and nothing else. What needs its date has dated set: sdbox has no dates but in
// the file of the message, and in the header cache.
type step struct {
	deliver, imap, pop3 string
	opens, dated        bool
}

func script() []step {
	text := client.CRLF(client.Message("appended", 30))
	appended := func(folder, flags string) step {
		return step{imap: fmt.Sprintf("APPEND %s (%s) \"05-Mar-2011 07:08:09 +0100\" {%d+}\r\n%s", folder, flags, len(text), text)}
	}
	return []step{
		{imap: "CREATE Work"}, {imap: "SUBSCRIBE Work"}, {imap: "NAMESPACE"},
		{deliver: "plain 0"}, {deliver: "plain 1"}, {deliver: "to-work 0"}, {deliver: "to-flags 0"}, {deliver: "flags-new 0"}, {deliver: "to-new 0"},
		appended("INBOX", `\Seen $Later`),
		{imap: "SELECT INBOX"},
		{imap: "FETCH 1:* (UID FLAGS RFC822.SIZE)"}, {imap: "FETCH 4 INTERNALDATE", dated: true},
		{imap: "FETCH 1:* ENVELOPE", opens: true},
		{imap: "FETCH 2 BODY.PEEK[]", opens: true},
		{imap: "FETCH 2 (BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT DATE)])", opens: true},
		{imap: "FETCH 4 BODY.PEEK[]<300.200>", opens: true},
		{imap: "SEARCH ALL"}, {imap: "SEARCH UNSEEN"}, {imap: "SEARCH KEYWORD custom"}, {imap: "SEARCH LARGER 1000"}, {imap: "SEARCH BEFORE 1-Jan-2020", dated: true},
		{imap: `SEARCH SUBJECT "plain"`, opens: true}, {imap: `SEARCH BODY "text of plain 1"`, opens: true},
		{imap: `SEARCH CHARSET UTF-8 TEXT {6+}` + "\r\näöü", opens: true},
		{imap: "SORT (REVERSE SUBJECT) UTF-8 ALL", opens: true}, {imap: "THREAD REFERENCES UTF-8 ALL", opens: true},
		{imap: `STORE 1 +FLAGS (\Answered $Forwarded mykey)`}, {imap: `STORE 2 -FLAGS.SILENT (\Seen)`}, {imap: `STORE 3 FLAGS (\Draft)`},
		{imap: "COPY 1:2 Work"}, {imap: "UID COPY 4 Missing"}, {imap: "MOVE 3 Work"}, appended("Work", `\Draft`),
		{deliver: "plain 2"}, {deliver: "to-work 2"}, {imap: "NOOP"},
		{imap: "SELECT Work"},
		{imap: "UID FETCH 1:* (UID FLAGS RFC822.SIZE)"}, {imap: "UID FETCH 5 INTERNALDATE", dated: true},
		{imap: "UID FETCH 2:5 (BODY.PEEK[TEXT])", opens: true},
		{imap: `STORE 1,3 +FLAGS (\Deleted)`}, {imap: "UID EXPUNGE 1"}, {imap: "EXPUNGE"}, {imap: "CHECK"},
		{imap: "UID FETCH 1:* (FLAGS)"}, {imap: "CLOSE"},
		{imap: "CREATE A.B"}, {imap: `CREATE "&ANw-ber uns"`}, {imap: "RENAME A Z"}, {imap: "SUBSCRIBE Z.B"}, {imap: `LSUB "" "*"`},
		{imap: "RENAME Work Z.Work"}, {imap: "UNSUBSCRIBE Work"}, {imap: `LSUB "" "*"`}, {deliver: "to-work fails over"}, {imap: "CREATE Gone"},
		appended("Gone", ""), {imap: "DELETE Gone"}, {imap: "STATUS Gone (MESSAGES)"}, {imap: `STATUS Z.Work (MESSAGES UIDNEXT UNSEEN)`},
		{imap: "GETQUOTAROOT INBOX"}, {imap: "SELECT Z.Work"}, {imap: "FETCH 1:* BODY.PEEK[]", opens: true}, {imap: "UNSELECT"},
		{imap: "RENAME INBOX Archive"}, {deliver: "plain after"}, {imap: "SELECT Archive"}, {imap: "FETCH 1:* (UID FLAGS)"},
		{imap: "SELECT INBOX"}, {imap: `STORE 1 +FLAGS (\Seen)`}, appended("INBOX", ""),
		{pop3: "UIDL"}, {pop3: "LIST"}, {pop3: "RETR 1", opens: true}, {pop3: "TOP 2 3", opens: true},
		{imap: `LIST "" "*"`}, {imap: "GETQUOTAROOT INBOX"},
	}
}

func (s step) String() string { return fmt.Sprintf("%.60q", s.deliver+s.imap+s.pop3) }

// unlockedAt says when a user of a mode is unlocked: "cycle" logs in, lets the worker run, and logs out.
func unlockedAt(mode string, i, n int) bool {
	return mode == "unlocked" || mode == "cycle" && i >= n/3 && i < logoutAt(n)
}

// logoutAt is the step before which all sessions end, in every mode and on ext4 too.
func logoutAt(n int) int { return 2 * n / 3 }

// variants are the ways to run Dovecot over a view that the script is tried with.
var variants = []struct {
	name  string
	modes []string
	options
}{
	{"as shipped", modes, options{users: []string{"alice"}}},
	{"domains", []string{"cycle"}, options{users: []string{"alice@example.org"}}},
	{"zlib", []string{"cycle"}, options{users: []string{"alice"}, conf: zlib, plugins: "zlib"}},
	{"quota count", []string{"cycle"}, options{users: []string{"alice"}, conf: quotaCount}},
	{"system users", []string{"cycle"}, options{users: []string{"alice"}, system: true, auto: true}},
	{"chained", []string{"cycle"}, options{users: []string{"alice"}, chained: true}},
	{"registered", []string{"cycle"}, options{users: []string{"alice"}, register: true}},
	{"search index", modes, options{users: []string{"alice"}, conf: lucene, plugins: "fts fts_lucene"}},
	{"sdbox", modes, options{users: []string{"alice"}, sdbox: true, conf: quotaCount + dots}},
}

const zlib = "plugin {\nzlib_save = gz\n}\n"

const quotaCount = `
plugin {
  quota = count:User quota
  quota_vsizes = yes
}
`

// dots makes the names of folders those of a maildir.
const dots = "namespace inbox {\ninbox = yes\nseparator = .\n}\n"

// Debian's Dovecot has two indexes for full-text search that lie beside the mail; of these, Squat crashes on any file system.
// Folders are indexed when they are searched: an indexer in the background (fts_autoindex) gets in the way of other commands,
// on any filesystem.
const lucene = "plugin {\nfts = lucene\nfts_lucene = whitespace_chars=@.\nfts_enforced = yes\n}\n"

// TestScript runs the same commands on plain ext4 and on the view, in each mode, and wants the same answers, the same
// mailbox at the end, the same quota, and no other complaints from Dovecot.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			steps := script()
			for i := range steps {
				steps[i].opens = steps[i].opens || steps[i].dated && v.sdbox
			}
			p := &play{steps: steps, user: v.users[0], plain: newPlain(t, v.options)}
			p.rehearse(t)
			if zipped := v.conf == zlib; zipped != compressed(t, p.plain.mail) {
				t.Fatalf("messages are compressed: %v", !zipped)
			}
			for _, mode := range v.modes {
				t.Run(mode, func(t *testing.T) {
					_, h := newSite(t, v.options)
					p.perform(t, h, mode)
				})
			}
		})
	}
}

// compressed says whether the messages below a directory are all compressed.
func compressed(t testing.TB, dir string) bool {
	t.Helper()
	for _, path := range messages(t, dir) {
		content, err := os.ReadFile(path)
		must(t, err)
		if !bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
			return false
		}
	}
	return true
}

// play is a script, and what comes of it on plain ext4.
type play struct {
	steps []step
	user  string
	plain *host
	want  []string
}

// rehearse runs the script on plain ext4.
func (p *play) rehearse(t *testing.T) {
	t.Helper()
	r := newRun(t, p.plain, p.user)
	for i, s := range p.steps {
		if i == logoutAt(len(p.steps)) {
			r.session.Close()
		}
		answer := r.step(s)
		if s.opens && refusedAnswer(answer) {
			t.Fatalf("%s is refused on ext4: %q", s, answer)
		}
		p.want = append(p.want, answer)
	}
}

// perform runs the script on a view.
func (p *play) perform(t *testing.T, h *host, mode string) {
	t.Helper()
	r := newRun(t, h, p.user)
	if h.auto { // the first login makes the key
		h.unlock(t, p.user)
		h.lock(t, p.user)
	}
	turn := func(to bool) {
		if to && !r.unlocked {
			h.unlock(t, p.user)
		} else if !to && r.unlocked {
			h.lock(t, p.user)
		}
		r.unlocked = to
	}
	for i, s := range p.steps {
		if i == logoutAt(len(p.steps)) {
			r.session.Close()
		}
		turn(unlockedAt(mode, i, len(p.steps)))
		if s.opens && !r.unlocked {
			h.sealed(t, p.user)
			// Some refusals end the session; that would make a difference for what follows.
			apart := &run{t: t, h: h, user: p.user, session: r.session.Examine()}
			if got := apart.step(s); !refusedAnswer(got) {
				t.Errorf("%s of a locked user: %q", s, got)
			}
			apart.session.Close()
		} else if got := r.step(s); got != p.want[i] {
			t.Errorf("%s\n     got %q\non ext4 %q", s, got, p.want[i])
		}
	}
	turn(true)
	client.Same(t, "the mailbox at the end", stable(p.plain.snapshot(t, p.user)), stable(h.snapshot(t, p.user)))
	if a, b := p.plain.bodies(t, p.user), h.bodies(t, p.user); !maps.Equal(a, b) {
		t.Errorf("messages differ from those on ext4: %q %q", a, b)
	}
	h.judgeLog(t, p.plain.complaints(t))
}

// run carries out the script as one user.
type run struct {
	t        testing.TB
	h        *host
	user     string
	unlocked bool
	session  *client.Session
}

func newRun(t testing.TB, h *host, user string) *run {
	return &run{t: t, h: h, user: user, session: &client.Session{Enter: func() *client.IMAP { return h.login(t, user) }}}
}

// step carries out one step and returns the answer, as far as it is the same in every run.
func (r *run) step(s step) string {
	r.t.Helper()
	switch {
	case s.deliver != "":
		return strings.Join(r.h.lmtp(r.t, client.Message(s.deliver, 20), r.user), " ")
	case s.pop3 != "":
		user, password := r.user+"*master", "pw"
		if r.unlocked {
			user, password = r.user, r.h.passwordOf(r.user)
		}
		return stable(strings.Join(r.h.pop3(r.t, user, password, s.pop3), "\n"))
	}
	return stable(r.session.Do(r.t, s.imap))
}

// refusedAnswer says whether an answer to a command is an error.
func refusedAnswer(answer string) bool {
	last := answer[strings.LastIndexByte(answer, '\n')+1:]
	return strings.HasPrefix(last, "NO ") || last == "CLOSED" || strings.HasPrefix(last, "-ERR")
}

// passing is what differs from run to run: times, and what is made of them.
var passing = []struct {
	expr *regexp.Regexp
	with string
}{
	{regexp.MustCompile(` \(\d[^()]* secs\)`), ""},
	{regexp.MustCompile(`UIDVALIDITY \d+`), "UIDVALIDITY *"},
	{regexp.MustCompile(`(APPENDUID|COPYUID) \d+`), "$1 *"},
	{regexp.MustCompile(`INTERNALDATE "[^"]*20[2-9]\d[^"]*"`), "INTERNALDATE *"},
	{regexp.MustCompile(`(?m)^(\d+ 000000[0-9a-f]{2})[0-9a-f]{8}$`), "$1*"},
	{regexp.MustCompile(` \\(Un)?Marked`), ""},
}

func stable(text string) string {
	for _, p := range passing {
		text = p.expr.ReplaceAllString(text, p.with)
	}
	return text
}
