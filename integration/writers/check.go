package writers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Violation is something that an account says and the view does not.
type Violation struct {
	Kind string // the writer: "deliver", "append", …; "keys" for what cannot be unlocked
	Text string
}

func (v Violation) String() string { return v.Kind + ": " + v.Text }

// Check looks for what was acknowledged up to a time: it opens every key (bob and carol are locked again at the end), and
// does CheckFiles. It returns the number of acknowledged operations that it looked at.
func (w *Work) Check(t testing.TB, until uint64) (acknowledged int, bad []Violation) {
	t.Helper()
	keys, bad := w.checkKeys(t, until)
	acknowledged, found := w.CheckFiles(t, until)
	bad = append(bad, found...)
	for _, u := range users {
		bad = append(bad, w.wholeOnly(u)...)
	}
	bad = append(bad, w.checkPlain()...)
	for _, u := range []string{"bob", "carol"} {
		bad = append(bad, w.lock(t, u)...)
	}
	return acknowledged + keys, bad
}

// CheckFiles compares the files in the view with the accounts up to a time, and returns the number of acknowledged
// operations. bob and carol are unlocked meanwhile.
func (w *Work) CheckFiles(t testing.TB, until uint64) (acknowledged int, bad []Violation) {
	t.Helper()
	for _, u := range []string{"bob", "carol"} {
		bad = append(bad, w.unlock(t, u, 0)...)
	}
	checks := map[string]func(job, []line) []Violation{
		"deliver": w.checkMail, "append": w.checkLog, "inplace": w.checkInPlace, "rename": w.checkRename,
		"replace": w.checkReplaced, "link": w.checkLinks, "folder": w.checkFolders,
	}
	for _, j := range w.jobs() {
		check := checks[j.kind]
		if check == nil {
			continue
		}
		lines, err := read(w.account(j.name), until)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if l.what != "begin" && l.what != "going" {
				acknowledged++
			}
		}
		bad = append(bad, check(j, lines)...)
	}
	return acknowledged, bad
}

// checkKeys unlocks the users: the ones of the work, and those that were enrolled during it.
func (w *Work) checkKeys(t testing.TB, until uint64) (acknowledged int, bad []Violation) {
	t.Helper()
	for _, u := range []string{"alice", "bob", "carol"} {
		bad = append(bad, w.unlock(t, u, 0)...)
	}
	changes, err := read(w.account("passwd"), until)
	if err != nil {
		t.Fatal(err)
	}
	done, begun := w.began, w.began
	for _, l := range changes {
		if begun = l.arg(0); l.what == "done" {
			done = begun
			acknowledged++
		}
	}
	_ = w.Site.Call(t, nil, "lock", "dave") // an unlocked user would not need the record
	if v := w.unlock(t, "dave", done); v == nil {
		w.began = done
	} else if begun != done && w.unlock(t, "dave", begun) == nil {
		w.began = begun
	} else {
		bad = append(bad, v...)
	}
	enrolled, err := read(w.account("enroll"), until)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range enrolled {
		bad = append(bad, w.unlock(t, l.args[0], 0)...)
		_ = w.Site.Call(t, nil, "lock", l.args[0])
		acknowledged++
	}
	return acknowledged, bad
}

// states is what was last said of each name.
func states(lines []line) map[string]string {
	m := map[string]string{}
	for _, l := range lines {
		m[l.args[0]] = l.what
	}
	return m
}

// whole compares a file with the message of a name; "" if it is that.
func whole(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if want := mail(name); !bytes.Equal(b, want) {
		return fmt.Sprintf("%s has %d bytes, which are not the %d of %s", path, len(b), len(want), name)
	}
	return ""
}

// absent says what is wrong with a path that should not be there.
func absent(path string) string {
	if err := unix.Lstat(path, new(unix.Stat_t)); err != unix.ENOENT {
		return fmt.Sprintf("%s is still there (%v)", path, err)
	}
	return ""
}

// collect makes a list of what was found, of one writer.
type collect struct {
	kind string
	bad  []Violation
}

func (c *collect) add(what, problem string) {
	if problem != "" {
		c.bad = append(c.bad, Violation{c.kind, what + ": " + problem})
	}
}

func (w *Work) checkMail(j job, lines []line) []Violation {
	c := collect{kind: j.kind}
	for name, what := range states(lines) {
		switch path := j.place + "/new/" + name; what {
		case "there":
			c.add("acknowledged", whole(path, name))
		case "gone":
			c.add("its removal was acknowledged", absent(path))
		}
	}
	return c.bad
}

// wholeOnly finds anything in new/ that is not a whole message, acknowledged or not: it was synced before it got there.
// What is in tmp/ may be anything, but can be removed.
func (w *Work) wholeOnly(user string) []Violation {
	c := collect{kind: "deliver"}
	box := w.Site.View + "/" + user
	entries, err := os.ReadDir(box + "/new")
	if err != nil {
		c.add("new", err.Error())
	}
	for _, e := range entries {
		c.add("a message that is not whole", whole(box+"/new/"+e.Name(), e.Name()))
	}
	if entries, err = os.ReadDir(box + "/tmp"); err != nil {
		c.add("tmp", err.Error())
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "l") { // those of the links stay
			continue
		}
		if err := os.Remove(box + "/tmp/" + e.Name()); err != nil {
			c.add("what a delivery left", err.Error())
		}
	}
	return c.bad
}

func (w *Work) checkLog(j job, lines []line) []Violation {
	c := collect{kind: j.kind}
	if len(lines) == 0 {
		return nil
	}
	got, err := os.ReadFile(j.place)
	if err != nil {
		c.add("the log", err.Error())
		return c.bad
	}
	var want []byte
	for i := range lines {
		want = append(want, logRecord(i)...)
	}
	if !bytes.HasPrefix(got, want) {
		c.add("the log", fmt.Sprintf("lost acknowledged records: it has %d bytes, acknowledged are %d", len(got), len(want)))
		return c.bad
	}
	rest, next := got[len(want):], logRecord(len(lines))
	for i, b := range rest {
		if i >= len(next) || b != next[i] && !(w.PowerCut && b == 0) {
			c.add("the log", fmt.Sprintf("%d bytes behind it are not of the record that was being written", len(rest)))
			break
		}
	}
	return c.bad
}

func (w *Work) checkInPlace(j job, lines []line) []Violation {
	c := collect{kind: j.kind}
	if len(lines) == 0 {
		return nil
	}
	var done, begun [slots]int
	for _, l := range lines[1:] {
		switch s, g := l.arg(0), l.arg(1); l.what {
		case "begin":
			begun[s] = g
		case "done":
			done[s], begun[s] = g, g
		}
	}
	got, err := os.ReadFile(j.place)
	if err != nil || len(got) != slots*slotSize {
		c.add("the file of records", fmt.Sprintf("%d bytes, %v", len(got), err))
		return c.bad
	}
	for s := range slots {
		for i, b := range got[s*slotSize : (s+1)*slotSize] {
			if int(b) != done[s] && int(b) != begun[s] {
				c.add("a record", fmt.Sprintf("slot %d, byte %d is %d, acknowledged is %d, begun %d", s, i, b, done[s], begun[s]))
				break
			}
		}
	}
	return c.bad
}

// Promised reports whether anything was acknowledged, up to a time, of the file at a path below the view. Of what lies in
// tmp/ or is a lock, nothing is, but for the messages of the links.
func (w *Work) Promised(t testing.TB, path string, until uint64) bool {
	t.Helper()
	name := filepath.Base(path)
	for _, j := range w.jobs() {
		lines, err := read(w.account(j.name), until)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case j.kind == "link" && filepath.Dir(path) == "alice/tmp" && strings.HasPrefix(name, j.id+"-"):
			return slices.ContainsFunc(lines, func(l line) bool { return l.args[0] == name })
		case j.kind == "folder" && strings.HasPrefix(path, "alice/."+j.id+"-"):
			return slices.ContainsFunc(lines, func(l line) bool { return strings.HasPrefix(path, "alice/"+l.args[0]+"/") })
		case (j.kind == "append" || j.kind == "inplace") && filepath.Join(w.Site.View, path) == j.place:
			return len(lines) > 0
		}
	}
	return filepath.Base(filepath.Dir(path)) != "tmp" && !strings.HasSuffix(name, ".lock")
}
