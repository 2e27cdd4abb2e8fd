package postfix

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// person is a user of the system who reads mail on the machine, with a maildir in the view and nothing else.
type person struct {
	site *harness.Site
	m    *harness.Machine
	box  string // the maildir
	home string // of alice, outside the view
}

const alice = "alice"

// newPerson is alice with three messages, two of them new; she is locked.
func newPerson(t testing.TB) *person {
	t.Helper()
	p := &person{site: harness.Start(t, harness.Options{Profile: "maildir", User: "%u", Epoch: "1s"})}
	p.site.Enroll(t, alice)
	p.m = harness.NewMachine(t, p.site.View, p.site, "/home", "/var/mail")
	p.home = "/home/" + alice
	p.box = filepath.Join(p.site.View, alice)
	p.m.AddUser(t, alice, firstUID, p.home, "")
	must(t, os.Mkdir(p.m.Path(p.home), 0o700))
	must(t, os.Chown(p.m.Path(p.home), firstUID, firstUID))
	makeBox(t, p.box, firstUID)
	for i, place := range []string{"new/1.M1.mx", "new/2.M2.mx", "cur/3.M3.mx:2,S"} {
		path := filepath.Join(p.box, place)
		must(t, os.WriteFile(path, []byte(strings.ReplaceAll(message(fmt.Sprintf("number %d", i+1), 400*i), "\r", "")), 0o600))
		must(t, os.Chown(path, firstUID, firstUID))
	}
	(&host{site: p.site}).sealed(t, alice)
	return p
}

// as is a command as alice, in her home.
func (p *person) as(args ...string) []string {
	id := fmt.Sprint(firstUID)
	return append([]string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "env", "-C", p.home, "HOME=" + p.home, "TERM=xterm"}, args...)
}

// run runs a command in her surroundings.
func (p *person) run(args ...string) (string, error) {
	out, err := p.m.Command(args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return string(out), fmt.Errorf("cannot run %q: %w", args, err)
	}
	return string(out), err
}

// contents are the messages below a directory: where they are, flags included, and their text, or why there is none.
func contents(t testing.TB, box string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range files(t, box) {
		text, err := os.ReadFile(path)
		what := fmt.Sprintf("%.200q, %d bytes", text, len(text))
		if err != nil {
			what = "refused"
		}
		all[strings.TrimPrefix(path, box)] = what
	}
	return all
}

// mutt gives mutt the keys of a session in a terminal.
func (p *person) mutt(t testing.TB, keys string) {
	t.Helper()
	p.m.WriteFile(t, p.home+"/.muttrc", "set folder=/srv/mail/alice\nset mbox_type=Maildir\nset record=\nset move=no\nset quit=yes\n"+
		"set header_cache=\nset delete=yes\nset copy=no\nset wait_key=no\nset confirmappend=no\nset confirmcreate=no\nset beep=no\n")
	command := strings.Join(p.as("mutt"), " ") + " -n -f /srv/mail/alice -e 'push \"" + keys + "\"'"
	out, err := p.run("script", "-qec", command, "/dev/null")
	if err != nil {
		t.Errorf("mutt: %v: %.2000q", err, out)
	}
}

// TestMutt reads, flags, copies and deletes with mutt. It opens messages for what it lists: a locked mailbox lists nothing,
// and stays as it is.
func TestMutt(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	locked := contents(t, p.box)
	p.mutt(t, "<exit>")
	if now := contents(t, p.box); len(now) != len(locked) {
		t.Errorf("mutt on a locked mailbox: %q, before %q", now, locked)
	}
	p.site.Unlock(t, alice)
	p.mutt(t, "<first-entry><pipe-message>cat >shown<enter><copy-message>=.Work<enter><last-entry><flag-message><sync-mailbox><quit>")
	if shown, err := os.ReadFile(p.m.Path(p.home + "/shown")); err != nil || !strings.Contains(string(shown), "This is the text of number 1") {
		t.Errorf("mutt shows %q %v", shown, err)
	}
	flagged, copied := 0, 0
	for path, what := range contents(t, p.box) {
		if strings.HasPrefix(path, "/.Work/") && strings.Contains(what, "number 1") || what == "refused" {
			copied++
		}
		if _, flags, _ := strings.Cut(path, ":2,"); strings.Contains(flags, "F") {
			flagged++
		}
	}
	if flagged != 1 || copied != 1 {
		t.Errorf("%d flagged, %d copied: %q", flagged, copied, contents(t, p.box))
	}
	p.mutt(t, "<first-entry><delete-message><sync-mailbox><quit>")
	p.site.Lock(t, alice)
	if now := contents(t, p.box); len(now) != 3 {
		t.Errorf("%d messages at the end, want 3: %q", len(now), now)
	}
}

const mbsyncConf = `MaildirStore view
Inbox /srv/mail/alice
SubFolders Maildir++

MaildirStore copy
Path ~/copy/
Inbox ~/copy/INBOX
SubFolders Verbatim

Channel all
Far :view:
Near :copy:
Patterns *
Create Near
Remove None
Expunge Both
SyncState *
`

// TestMbsync keeps a copy of the maildir in the view, as its user. While she is locked nothing can come, nothing is lost on
// either side, and what she wrote on her side arrives.
func TestMbsync(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.m.WriteFile(t, p.home+"/.mbsyncrc", mbsyncConf)
	must(t, os.Mkdir(p.m.Path(p.home+"/copy"), 0o700))
	must(t, os.Chown(p.m.Path(p.home+"/copy"), firstUID, firstUID))
	mine := p.m.Path(p.home + "/copy")
	p.site.Unlock(t, alice)
	run := func() (string, error) { return p.run(p.as("mbsync", "all")...) }
	if out, err := run(); err != nil {
		t.Fatalf("mbsync: %v: %s", err, out)
	}
	view, local := contents(t, p.box), contents(t, mine)
	if len(view) != 3 || len(local) != 3 {
		t.Fatalf("in the view %q, copy %q", view, local)
	}
	same := func(step string) {
		t.Helper()
		if now := contents(t, p.box); !maps.Equal(view, now) {
			t.Errorf("%s: in the view %q, before %q", step, now, view)
		}
		if now := contents(t, mine); !maps.Equal(local, now) {
			t.Errorf("%s: copy %q, before %q", step, now, local)
		}
	}
	for _, step := range []string{"again", "after a restart"} {
		if out, err := run(); err != nil {
			t.Errorf("%s: %v: %s", step, err, out)
		}
		same(step)
		p.site.Stop(t)
		p.site.Serve(t)
	}
	p.site.Lock(t, alice)
	path := filepath.Join(mine, "INBOX/cur/4.M4.home:2,S")
	must(t, os.WriteFile(path, []byte("Subject: written at home\n\ntext\n"), 0o600))
	must(t, os.Chown(path, firstUID, firstUID))
	out, err := run()
	t.Logf("mbsync of a locked user: %v: %s", err, out)
	p.site.Unlock(t, alice)
	if out, err := run(); err != nil {
		t.Errorf("mbsync: %v: %s", err, out)
	}
	if now := contents(t, p.box); len(now) != 4 {
		t.Errorf("in the view %q, want one more than %q", now, view)
	}
	if now := contents(t, mine); len(now) != 4 {
		t.Errorf("copy %q, want one more than %q", now, local)
	}
}
