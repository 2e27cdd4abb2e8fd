package crash

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Procs{
		"deliver": childDeliver,
		"append":  childAppend,
		"inplace": childInPlace,
		"rename":  childRename,
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// round is what one round wrote, and where its accounts are.
type round struct {
	number   int
	box      string // alice's mailbox
	locked   string // bob's
	accounts string
}

func (r round) account(kind string) string {
	return fmt.Sprintf("%s/%s-%d", r.accounts, kind, r.number)
}
func (r round) log() string           { return fmt.Sprintf("%s/log-%d", r.box, r.number) }
func (r round) inPlace() string       { return fmt.Sprintf("%s/inplace-%d", r.box, r.number) }
func (r round) id(kind string) string { return fmt.Sprintf("%s%d", kind, r.number) }

// lines are the words of an account.
func lines(t testing.TB, path string) [][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	var all [][]string
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if w := strings.Fields(l); len(w) > 0 {
			all = append(all, w)
		}
	}
	return all
}

func number(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// write starts the writers of a round, and kills the daemon after a random time.
func (r round) write(t *testing.T, s *harness.Site) {
	t.Helper()
	writers := []*harness.Proc{
		harness.Spawn(t, "deliver", r.box, r.account("deliver"), r.id("a")),
		harness.Spawn(t, "deliver", r.locked, r.account("locked"), r.id("b")),
		harness.Spawn(t, "append", r.log(), r.account("append")),
		harness.Spawn(t, "inplace", r.inPlace(), r.account("inplace")),
		harness.Spawn(t, "rename", r.box+"/cur", r.account("rename"), r.id("flag")),
	}
	for _, w := range writers {
		w.Expect(t, "going")
	}
	<-time.After(time.Duration(rand.IntN(250)) * time.Millisecond) // the moment is the test
	s.Kill(t)
	for _, w := range writers {
		w.Expect(t, "ended")
		w.Wait(t)
	}
}

// check compares what is there with the accounts and returns the number of acknowledged operations.
func (r round) check(t *testing.T) int {
	t.Helper()
	return r.checkMail(t, r.box, "deliver") + r.checkLog(t) + r.checkInPlace(t) + r.checkRename(t)
}

func (r round) checkMail(t *testing.T, box, kind string) int {
	t.Helper()
	state := map[string]string{}
	for _, w := range lines(t, r.account(kind)) {
		state[w[1]] = w[0]
	}
	for name, what := range state {
		b, err := os.ReadFile(box + "/new/" + name)
		switch {
		case what == "there" && (err != nil || !bytes.Equal(b, mail(name))):
			t.Errorf("round %d: %s was acknowledged: %v, %d bytes", r.number, name, err, len(b))
		case what == "gone" && !os.IsNotExist(err):
			t.Errorf("round %d: the removal of %s was acknowledged: %v, %d bytes", r.number, name, err, len(b))
		}
	}
	return len(state)
}

func (r round) checkLog(t *testing.T) int {
	t.Helper()
	got, err := os.ReadFile(r.log())
	must(t, err)
	acknowledged := len(lines(t, r.account("append")))
	var want []byte
	for i := range acknowledged {
		want = append(want, logRecord(i)...)
	}
	if !bytes.HasPrefix(got, want) {
		t.Errorf("round %d: the log lost acknowledged records: %d bytes, want %d", r.number, len(got), len(want))
	} else if rest := got[len(want):]; !bytes.HasPrefix(logRecord(acknowledged), rest) {
		t.Errorf("round %d: %d bytes behind the log are not of the record that was being written", r.number, len(rest))
	}
	return acknowledged
}

func (r round) checkInPlace(t *testing.T) int {
	t.Helper()
	var done, begun [slots]int
	all := lines(t, r.account("inplace"))
	for _, w := range all {
		switch s, g := number(t, w[1]), number(t, w[2]); w[0] {
		case "begin":
			begun[s] = g
		case "done":
			done[s] = g
		}
	}
	got, err := os.ReadFile(r.inPlace())
	must(t, err)
	if len(got) != slots*slotSize {
		t.Errorf("round %d: the file of records has %d bytes", r.number, len(got))
		return 0
	}
	for s := range slots {
		for i, b := range got[s*slotSize : (s+1)*slotSize] {
			if int(b) != done[s] && int(b) != begun[s] {
				t.Errorf("round %d: slot %d, byte %d is %d, acknowledged is %d, begun %d", r.number, s, i, b, done[s], begun[s])
				break
			}
		}
	}
	return len(all) / 2
}

func (r round) checkRename(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(r.box + "/cur/" + r.id("flag") + "[,:]*")
	must(t, err)
	all := lines(t, r.account("rename"))
	last := number(t, all[len(all)-1][1])
	if len(found) != 1 {
		t.Errorf("round %d: the message has the names %q", r.number, found)
		return 0
	}
	_, after, _ := strings.Cut(filepath.Base(found[0]), ":")
	if n := number(t, after); n != last && n != last+1 {
		t.Errorf("round %d: the message has name %d, acknowledged is %d", r.number, n, last)
	}
	b, err := os.ReadFile(found[0])
	if err != nil || !bytes.Equal(b, mail(r.id("flag"))) {
		t.Errorf("round %d: the renamed message: %v, %d bytes", r.number, err, len(b))
	}
	return len(all)
}

// wholeOnly fails for anything in new/ that is not a whole message, acknowledged or not: it was renamed there after fsync.
func wholeOnly(t *testing.T, box string) {
	t.Helper()
	entries, err := os.ReadDir(box + "/new")
	must(t, err)
	for _, e := range entries {
		if b, err := os.ReadFile(box + "/new/" + e.Name()); err != nil || !bytes.Equal(b, mail(e.Name())) {
			t.Errorf("%s in new/ is not whole: %v, %d bytes", e.Name(), err, len(b))
		}
	}
	leftovers, err := os.ReadDir(box + "/tmp")
	must(t, err)
	for _, e := range leftovers { // whatever they hold, they can be removed
		must(t, os.Remove(box+"/tmp/"+e.Name()))
	}
}

// TestKills is the whole of it.
func TestKills(t *testing.T) {
	rounds := 20
	if text := os.Getenv("CRASH_ROUNDS"); text != "" {
		rounds = number(t, text)
	}
	s := harness.Start(t, harness.Options{Store: harness.Image{MiB: 2048}})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	for _, box := range []string{"alice", "bob"} {
		for _, d := range []string{"", "/cur", "/new", "/tmp"} {
			must(t, os.Mkdir(s.View+"/"+box+d, 0o700))
		}
	}
	accounts := harness.Dir(t)
	var all []round
	acknowledged := 0
	for n := range rounds {
		r := round{number: n, box: s.View + "/alice", locked: s.View + "/bob", accounts: accounts}
		r.write(t, s)
		s.Serve(t)
		all = append(all, r)
		acknowledged += r.check(t)
		wholeOnly(t, r.box)
		if t.Failed() {
			break
		}
	}
	s.Unlock(t, "bob")
	for _, r := range all { // once more, after all the others
		r.check(t)
		acknowledged += r.checkMail(t, r.locked, "locked")
	}
	wholeOnly(t, s.View+"/bob")
	t.Logf("%d acknowledged operations in %d rounds", acknowledged, len(all))
}
