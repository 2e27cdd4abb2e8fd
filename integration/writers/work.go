package writers

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// Always is the time after everything.
const Always uint64 = math.MaxUint64

// Users of the work: alice is unlocked and does everything; bob is locked and gets mail; carol gets mail and is unlocked
// and locked all the time; dave is unlocked, his mail was plain before, and his password changes all the time. The keys of
// alice and dave are rotated.
var users = []string{"alice", "bob", "carol", "dave"}

// plainMails is how many messages dave had in the clear.
const plainMails = 60

// Work is one round of work at one site.
type Work struct {
	Site  *harness.Site
	Clock *Clock
	// PowerCut says that the machine has lost its power since: what was written and not synced may be gone or zero.
	PowerCut bool

	accounts string
	round    int
	began    int // dave's password when it began
	running  []*harness.Proc
}

// job is one writer of a round.
type job struct{ kind, name, place, id string }

func (w *Work) jobs() []job {
	view := w.Site.View
	n := func(s string) string { return fmt.Sprintf("%s%d", s, w.round) }
	return []job{
		{"deliver", "alice", view + "/alice", n("a")},
		{"deliver", "bob", view + "/bob", n("b")},
		{"deliver", "carol", view + "/carol", n("c")},
		{"append", "log", view + "/alice/" + n("log-"), ""},
		{"inplace", "inplace", view + "/alice/" + n("inplace-"), ""},
		{"rename", "rename", view + "/alice", n("flag")},
		{"replace", "replace", view + "/alice", n("list-")},
		{"link", "link", view + "/alice", n("l")},
		{"folder", "folder", view + "/alice", n("f")},
		{"map", "map-alice", view + "/alice", ""},
		{"map", "map-carol", view + "/carol", ""},
		{"toggle", "toggle", "carol", ""},
		{"passwd", "passwd", "dave", fmt.Sprint(w.began)},
		{"rotate", "rotate-alice", "alice", ""},
		{"rotate", "rotate-dave", "dave", ""},
		{"enroll", "enroll", "", n("user")},
	}
}

func (w *Work) account(name string) string {
	return filepath.Join(w.accounts, fmt.Sprintf("%s-%d", name, w.round))
}

// Prepare enrols the users of a new site whose daemon runs, makes their mailboxes, and makes all of that durable.
func Prepare(t testing.TB, s *harness.Site) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range users {
		if r := s.Call(t, Password(u, 0), "enroll", u); r.Code != 0 {
			t.Fatalf("enroll %s: %s", u, r.Err)
		}
		root := s.View
		if u == "dave" {
			root = s.Store // where it was before there was a view
		}
		for _, d := range []string{"", "/cur", "/new", "/tmp"} {
			must(os.Mkdir(root+"/"+u+d, 0o700))
		}
	}
	for i := range plainMails {
		name := fmt.Sprintf("plain-%d", i)
		must(os.WriteFile(s.Store+"/dave/new/"+name, mail(name), 0o600))
	}
	fd, err := unix.Open(s.Store, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(err)
	must(unix.Syncfs(fd))
	must(unix.Close(fd))
}

// Begin unlocks alice and dave and starts the writers of round n, with accounts in a directory: those of these kinds, or
// all. last is the round before, if there was one that has been checked.
func Begin(t testing.TB, s *harness.Site, accounts string, n int, last *Work, kinds ...string) *Work {
	t.Helper()
	clock, err := NewClock(accounts + "/clock")
	if err != nil {
		t.Fatal(err)
	}
	w := &Work{Site: s, Clock: clock, accounts: accounts, round: n}
	if last != nil {
		w.began = last.began
	}
	for _, u := range []string{"alice", "dave"} {
		if v := w.unlock(t, u, w.generation(u)); v != nil {
			t.Fatal(v)
		}
	}
	for _, j := range w.jobs() {
		if len(kinds) > 0 && !slices.Contains(kinds, j.kind) {
			continue
		}
		p := harness.Spawn(t, "writer-"+j.kind, j.place, w.account(j.name), j.id, accounts+"/clock", harness.Binary(t), s.Config, s.View)
		w.running = append(w.running, p)
	}
	for _, p := range w.running {
		p.Expect(t, "going")
	}
	return w
}

func (w *Work) generation(user string) int {
	if user == "dave" {
		return w.began
	}
	return 0
}

// End waits until all writers have found that the daemon is gone.
func (w *Work) End(t testing.TB) {
	t.Helper()
	for _, p := range w.running {
		p.Expect(t, "ended")
		p.Wait(t)
	}
}

// Clear removes everything from the mailboxes but what was there before the first round.
func Clear(t testing.TB, s *harness.Site) {
	t.Helper()
	for _, u := range users[:3] {
		box := s.View + "/" + u
		entries, err := os.ReadDir(box)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(box + "/" + e.Name()); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range []string{"/cur", "/new", "/tmp"} {
			if err := os.Mkdir(box+d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// lock locks a user.
func (w *Work) lock(t testing.TB, user string) []Violation {
	t.Helper()
	if r := w.Site.Call(t, nil, "lock", user); r.Code != 0 {
		return []Violation{{"keys", fmt.Sprintf("%s cannot be locked: exit %d: %s", user, r.Code, r.Err)}}
	}
	return nil
}

// unlock unlocks a user with the password after n changes.
func (w *Work) unlock(t testing.TB, user string, n int) []Violation {
	t.Helper()
	if r := w.Site.Call(t, Password(user, n), "unlock", user); r.Code != 0 {
		return []Violation{{"keys", fmt.Sprintf("%s cannot be unlocked with password %d: exit %d: %s", user, n, r.Code, r.Err)}}
	}
	return nil
}
