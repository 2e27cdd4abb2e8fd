package writers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lastOf returns the last step that was acknowledged and the last that was begun; -1 if none was.
func lastOf(lines []line) (done, begun int) {
	done, begun = -1, -1
	for _, l := range lines {
		if begun = l.arg(0); l.what == "done" {
			done = begun
		}
	}
	return done, begun
}

func (w *Work) checkRename(j job, lines []line) []Violation {
	c := collect{kind: j.kind}
	done, begun := lastOf(lines)
	if done < 0 {
		return nil
	}
	found, err := filepath.Glob(j.place + "/cur/" + j.id + "[,:]*")
	if err != nil || len(found) != 1 {
		c.add("the message", fmt.Sprintf("has the names %q (%v)", found, err))
		return c.bad
	}
	if name := filepath.Base(found[0]); name != flagged(j.id, done) && name != flagged(j.id, begun) {
		c.add("the message", fmt.Sprintf("has the name %s, acknowledged is %d, begun %d", name, done, begun))
	}
	c.add("the message", whole(found[0], j.id))
	return c.bad
}

func (w *Work) checkReplaced(j job, lines []line) []Violation {
	c := collect{kind: j.kind}
	done, begun := lastOf(lines)
	path := j.place + "/" + j.id
	if done >= 0 && whole(path, fmt.Sprintf("%s-%d", j.id, done)) != "" {
		c.add("the file, which is not of the version begun either", whole(path, fmt.Sprintf("%s-%d", j.id, begun)))
	}
	return c.bad
}

func (w *Work) checkLinks(j job, lines []line) []Violation {
	c := collect{kind: j.kind}
	for name, what := range states(lines) {
		first, second := j.place+"/tmp/"+name, j.place+"/cur/"+copyOf(name)
		if what == "made" || what == "linked" {
			c.add("acknowledged", whole(first, name))
		}
		if what == "gone" {
			c.add("its removal was acknowledged", absent(first))
		}
		if what == "made" {
			continue
		}
		c.add("the second name", whole(second, name))
		var a, b unix.Stat_t
		// The end of a daemon that was converting the file, name by name, may have made two files of it.
		if what == "linked" && (unix.Lstat(first, &a) != nil || unix.Lstat(second, &b) != nil || !w.linked(&a, &b)) {
			c.add(name, fmt.Sprintf("two names of inodes %d and %d with %d and %d links", a.Ino, b.Ino, a.Nlink, b.Nlink))
		}
	}
	return c.bad
}

// linked says whether two names have the counts of links that they should have. Of a conversion that came to its end between
// two steps there may be a third name, which goes with the next pass.
func (w *Work) linked(a, b *unix.Stat_t) bool {
	if a.Ino == b.Ino {
		return a.Nlink == 2
	}
	return a.Nlink+b.Nlink == 2 || a.Nlink+b.Nlink == 3 && w.linkedTemporary()
}

// linkedTemporary says whether the store has a temporary file that is a further name of another file.
func (w *Work) linkedTemporary() (found bool) {
	_ = filepath.WalkDir(w.Site.Store, func(path string, d os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && strings.HasPrefix(d.Name(), "mc1!") && unix.Lstat(path, &st) == nil && st.Nlink > 1 {
			found = true
		}
		return nil
	})
	return found
}

func (w *Work) checkFolders(j job, lines []line) []Violation {
	c := collect{kind: j.kind}
	for name, what := range states(lines) {
		dir := j.place + "/" + name
		switch what {
		case "there":
			c.add("acknowledged", whole(dir+"/cur/"+name, name))
			for _, d := range []string{"new", "tmp"} {
				if _, err := os.ReadDir(dir + "/" + d); err != nil {
					c.add("acknowledged", err.Error())
				}
			}
		case "gone":
			c.add("its removal was acknowledged", absent(dir))
		case "going":
			if err := os.RemoveAll(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				c.add("what is left of it", err.Error())
			}
		}
	}
	return c.bad
}

// checkPlain looks for the mail that dave had before.
func (w *Work) checkPlain() []Violation {
	c := collect{kind: "conversion"}
	for i := range plainMails {
		name := fmt.Sprintf("plain-%d", i)
		c.add("had been there before", whole(w.Site.View+"/dave/new/"+name, name))
	}
	return c.bad
}
