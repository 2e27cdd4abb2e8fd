package hostile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// version is one state that a file had.
type version struct {
	plain, stored []byte
}

// file is a file of the view, with every state that somebody who kept copies of the store has seen.
type file struct {
	view     string // below the view
	store    string // below the store
	user     string
	private  bool
	writer   bool // write-once layout
	side     string
	versions []version // the last one is the present
}

func (f *file) now() version { return f.versions[len(f.versions)-1] }

// population is a store with several users, and a copy of it to start again from.
type population struct {
	s      *harness.Site
	copy   string
	files  []*file // in a fixed order
	byView map[string]*file
	layout []string // directories of the view that belong to users, in a fixed order
}

// bystander is the user whom no mutation concerns.
const bystander = "dave"

// victims are the others. The last one was locked while most of her mail came.
var victims = []string{"alice", "bob", "carol"}

// populate makes a site with mail of several users: messages of all sizes that make a difference, delivery keys, indexes that
// were changed in place, long names, links, extended attributes. Its daemon is stopped.
func populate(t testing.TB) *population {
	t.Helper()
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir", Plain: "refuse"})
	users := append(slices.Clone(victims), bystander)
	s.Enroll(t, users...)
	p := &population{s: s, copy: filepath.Join(s.StoreFS, "copy"), byView: map[string]*file{}}
	for _, u := range users {
		if u != "carol" {
			s.Unlock(t, u)
		}
		p.user(t, u)
	}
	// Another password, so that there is an older record to put back.
	s.Stop(t)
	// What the kernel forgot and the daemon closed is on disk now.
	copyTree(t, s.Store, p.copy)
	for _, f := range p.files {
		b, err := os.ReadFile(filepath.Join(s.Store, f.store))
		must(t, err)
		f.versions[len(f.versions)-1].stored = b
		f.writer = len(b) > 5 && b[5] == 1
	}
	s.Serve(t)
	s.Unlock(t, "carol")
	s.Stop(t)
	return p
}

// user fills the tree of one user.
func (p *population) user(t testing.TB, u string) {
	box := harness.Maildir(t, vmail, p.s.View, u)
	work := harness.Maildir(t, vmail, box, ".Work")
	harness.Maildir(t, vmail, work, "Deep ü") // a folder in the file system layout
	p.layout = append(p.layout, u, u+"/cur", u+"/new", u+"/.Work", u+"/.Work/cur")
	for i, size := range []int{1, 900, 3998, 4009, 4010, 4011, 5000, 8076, 8077, 20000, 70000, 300000} {
		p.message(t, u, fmt.Sprintf("%s/new/170000%04d.M%d.host", u, i, i), size)
	}
	for i := range 14 {
		p.message(t, u, fmt.Sprintf("%s/cur/170001%04d.M%d.host,S=%d:2,S", u, i, i, 500+700*i), 500+700*i)
	}
	for i := range 4 {
		name := fmt.Sprintf("%d-%s", i, strings.Repeat("long", 60))
		p.message(t, u, u+"/.Work/cur/"+name, 2000+i*3000)
	}
	for i, name := range []string{"dovecot-uidlist", "dovecot.index.log", "dovecot.index", "maildirsize", "subscriptions", "dovecot.index.cache"} {
		p.index(t, u, u+"/"+name, 300+5000*i, name == "dovecot.index.cache")
		p.index(t, u, u+"/.Work/"+name, 9000*i+4, name == "dovecot.index.cache")
	}
	if u != "carol" {
		must(t, os.Symlink("../.Work", box+"/cur/link"))
		must(t, os.Link(filepath.Join(box, "new/1700000001.M1.host"), filepath.Join(work, "new/linked")))
		must(t, unix.Setxattr(box+"/dovecot-uidlist", "user.test", []byte("value of "+u), 0))
	}
}

// message delivers a message twice under one name, so that there is an older one.
func (p *population) message(t testing.TB, u, view string, size int) {
	t.Helper()
	f := &file{view: view, user: u, private: true}
	for v := range 2 {
		plain := text(u, filepath.Base(view)[:9], v, size+v*17)
		deliver(t, filepath.Join(p.s.View, view), plain)
		f.versions = append(f.versions, version{plain: plain})
		if v == 0 {
			p.find(t, f)
			p.keep(t, f)
		}
	}
	p.add(t, f)
}

// index writes a file and changes it in place: overwrites, appends, cuts.
func (p *population) index(t testing.TB, u, view string, size int, private bool) {
	t.Helper()
	f := &file{view: view, user: u, private: private}
	path := filepath.Join(p.s.View, view)
	plain := text(u, filepath.Base(view), 0, size)
	must(t, os.WriteFile(path, plain, 0o600))
	for v := range 4 {
		if v > 0 {
			patch := text(u, filepath.Base(view), v, 700)
			at := v * len(plain) / 5
			if v == 3 {
				at = len(plain)
			}
			w, err := os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			_, err = w.WriteAt(patch, int64(at))
			must(t, err)
			must(t, w.Sync())
			must(t, w.Close())
			next := make([]byte, max(len(plain), at+len(patch)))
			copy(next, plain)
			copy(next[at:], patch)
			plain = next
		}
		f.versions = append(f.versions, version{plain: bytes.Clone(plain)})
		if v == 0 {
			p.find(t, f)
		}
		p.keep(t, f)
	}
	p.add(t, f)
}

// find notes where a file is stored, with its side entry if its name is long.
func (p *population) find(t testing.TB, f *file) {
	t.Helper()
	rel, err := filepath.Rel(p.s.Store, storePath(t, p.s, filepath.Join(p.s.View, f.view)))
	must(t, err)
	f.store = rel
	if strings.HasPrefix(filepath.Base(rel), "mc1+") {
		f.side = rel + ".n"
	}
}

// keep notes what is stored for the newest version. Everything was fsynced.
func (p *population) keep(t testing.TB, f *file) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.s.Store, f.store))
	must(t, err)
	f.versions[len(f.versions)-1].stored = b
}

func (p *population) add(t testing.TB, f *file) {
	t.Helper()
	readable(t, filepath.Join(p.s.View, f.view), f.now().plain)
	p.files = append(p.files, f)
	p.byView[f.view] = f
}

// reset makes the store what it was at first.
func (p *population) reset(t testing.TB) {
	t.Helper()
	must(t, os.RemoveAll(p.s.Store))
	copyTree(t, p.copy, p.s.Store)
}

// of are the files of a user.
func (p *population) of(user string) []*file {
	return slices.DeleteFunc(slices.Clone(p.files), func(f *file) bool { return f.user != user })
}

// path is a file's path in the store.
func (p *population) path(f *file) string { return filepath.Join(p.s.Store, f.store) }
