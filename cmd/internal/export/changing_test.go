package export

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

var profiles = []string{"maildir", "dovecot-sdbox", "cyrus"}

// everyForm runs a test for every profile, format and destination.
func everyForm(t *testing.T, test func(t *testing.T, s *plainStore, f Format, kind string)) {
	for _, profile := range profiles {
		for _, f := range []Format{Maildir, Mbox} {
			for _, kind := range []string{"directory", "tar"} {
				t.Run(fmt.Sprintf("%s-%s-%s", profile, f, kind), func(t *testing.T) {
					t.Parallel()
					test(t, newStore(t, profile), f, kind)
				})
			}
		}
	}
}

// TestExpunged removes messages, and changes the names of others, after the folder was listed and before the first of them
// is written.
func TestExpunged(t *testing.T) {
	t.Parallel()
	everyForm(t, func(t *testing.T, s *plainStore, f Format, kind string) {
		const messages = 20
		folder := map[string]string{"dovecot-sdbox": "mailboxes/INBOX"}[s.profile]
		files := make([]string, messages)
		for n := range files {
			files[n] = s.file(filepath.Join(folder, s.message(t, folder, n+1)))
		}
		dest, written := destination(t, kind)
		gone := 0
		change := func([]string) {
			for n, path := range files {
				switch {
				case n%2 == 0:
					must(t, os.Remove(path))
					gone++
				case s.profile == "maildir":
					cur := s.file("cur")
					must(t, os.MkdirAll(cur, 0o700))
					must(t, os.Rename(path, filepath.Join(cur, filepath.Base(path)+":2,S")))
				}
			}
		}
		report, err := Run(t.Context(), s.options(t, f, &watched{dest, once(change)}))
		must(t, err)
		out := written()
		for n := range files {
			if got := strings.Count(out, marker(n+1)); n%2 == 1 && got != 1 || got > 1 {
				t.Errorf("message %d is there %d times", n+1, got)
			}
		}
		// One was read already.
		if report.Messages < messages-gone || report.Messages > messages-gone+1 || report.Failed != 0 || gone == 0 {
			t.Errorf("%+v, %d were removed", report, gone)
		}
	})
}

// TestFolderMoves renames every other folder after all were listed, one of them to below a folder that may have been passed.
func TestFolderMoves(t *testing.T) {
	t.Parallel()
	everyForm(t, func(t *testing.T, s *plainStore, f Format, kind string) {
		const folders = 8
		name := folderNames[s.profile]
		for n := range folders {
			s.message(t, fmt.Sprintf(name, n), n)
		}
		dest, written := destination(t, kind)
		move := func(path []string) {
			last := -1
			for n := range folders {
				from := fmt.Sprintf(name, n)
				if strings.Contains(show(path), fmt.Sprintf("F%d", n)) {
					continue // it is being read
				}
				must(t, os.Rename(s.file(from), s.file(from+"-moved")))
				last = n
			}
			for n := range folders {
				if at := fmt.Sprintf(name, n); strings.Contains(show(path), fmt.Sprintf("F%d", n)) {
					must(t, os.Rename(s.file(fmt.Sprintf(name, last)+"-moved"), s.file(at+"/below")))
				}
			}
		}
		report, err := Run(t.Context(), s.options(t, f, &watched{dest, once(move)}))
		must(t, err)
		out := written()
		for n := range folders {
			if strings.Count(out, marker(n)) != 1 {
				t.Errorf("message %d is missing", n)
			}
		}
		if report.Failed != 0 || report.Messages != folders {
			t.Errorf("%+v", report)
		}
	})
}

// TestNamesKeepChanging gives whatever is not exported another name each time a message was read: of a folder's messages,
// or of the folders, every pass finds one more.
func TestNamesKeepChanging(t *testing.T) {
	t.Parallel()
	for what, name := range map[string]string{"messages": "new/%d.host", "folders": ".F%d"} {
		for _, f := range []Format{Maildir, Mbox} {
			t.Run(fmt.Sprintf("%s-%s", what, f), func(t *testing.T) {
				t.Parallel()
				s := newStore(t, "maildir")
				const all = 3 * relists
				paths := make([]string, all)
				for n := range paths {
					folder := ""
					if what == "folders" {
						folder = fmt.Sprintf(name, n)
					}
					s.message(t, folder, n)
					paths[n] = s.file(fmt.Sprintf(name, n))
				}
				dest, written := destination(t, "directory")
				round, done := 0, map[int]bool{}
				rename := func(_ []string, content string) {
					round++
					for n, from := range paths {
						if done[n] = done[n] || strings.Contains(content, marker(n)); done[n] {
							continue
						}
						before, _, _ := strings.Cut(from, ":2,")
						paths[n] = fmt.Sprintf("%s:2,%d", before, round)
						must(t, os.Rename(from, paths[n]))
					}
				}
				report, err := Run(t.Context(), s.options(t, f, &watched{dest, rename}))
				must(t, err)
				out := written()
				for n := range all {
					if strings.Count(out, marker(n)) != 1 {
						t.Errorf("message %d is missing", n)
					}
				}
				if report.Failed != 0 || report.Messages != all || round < all {
					t.Errorf("%+v after %d rounds", report, round)
				}
			})
		}
	}
}

// TestRemovedBeforeListing removes a directory between its opening and its listing.
func TestRemovedBeforeListing(t *testing.T) {
	t.Parallel()
	readers := map[string]func(*exporter) func(*offline.Dir, []string) error{
		"tree": func(e *exporter) func(*offline.Dir, []string) error {
			return func(d *offline.Dir, at []string) error { return e.tree(d, at, nil) }
		},
		"cyrus":     func(e *exporter) func(*offline.Dir, []string) error { return e.cyrus },
		"dbox":      func(e *exporter) func(*offline.Dir, []string) error { return e.dbox },
		"dboxMails": func(e *exporter) func(*offline.Dir, []string) error { return e.dboxMails },
		"folder": func(e *exporter) func(*offline.Dir, []string) error {
			return func(d *offline.Dir, at []string) error {
				return (&folder{exporter: e, dir: d, at: at}).export([]string{})
			}
		},
	}
	for name, reader := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, "maildir")
			s.message(t, "folder", 1)
			dest, _ := destination(t, "directory")
			e := &exporter{Options: s.options(t, Mbox, dest), ctx: t.Context(), dirs: map[string]state{}, inodes: map[string]uint64{}}
			parent, err := e.Store.Dir([]string{"alice"})
			must(t, err)
			defer parent.Close()
			must(t, e.sub(parent, "folder", []string{"folder"}, func(d *offline.Dir, at []string) error {
				must(t, os.RemoveAll(s.file("folder")))
				return reader(e)(d, at)
			}))
			if e.missed == 0 || e.report.Failed != 0 || e.report.Messages != 0 {
				t.Errorf("%d missed, %+v", e.missed, e.report)
			}
		})
	}
}

// absent is a destination that was removed.
type absent struct{ Dest }

func (absent) Dir([]string) error { return os.ErrNotExist }

// TestDestinationGone: what is missing at the destination is not taken for mail that has gone.
func TestDestinationGone(t *testing.T) {
	t.Parallel()
	for _, profile := range profiles {
		s := newStore(t, profile)
		s.message(t, "", 1)
		if report, err := Run(t.Context(), s.options(t, Maildir, absent{})); !errors.Is(err, errDest) {
			t.Errorf("%s: %+v, %v", profile, report, err)
		}
	}
}

// TestUnreadableOnce: later passes do not report a directory again.
func TestUnreadableOnce(t *testing.T) {
	t.Parallel()
	e := &exporter{ctx: t.Context()}
	e.Problem = func(string, error) {}
	passes := 0
	must(t, e.root(nil, func() error {
		passes++
		_, err := e.first(nil, 1)
		must(t, err)
		return e.enter([]string{"folder"}, func() error { return errors.New("disk on fire") })
	}))
	if e.report.Failed != 1 || passes < 2 {
		t.Errorf("%d passes, %+v", passes, e.report)
	}
}
