package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestFolderReplaced removes a folder that was exported, and gives its name to one that was not: what is missing then is
// reported.
func TestFolderReplaced(t *testing.T) {
	t.Parallel()
	everyForm(t, func(t *testing.T, s *plainStore, f Format, kind string) {
		const folders = 3
		name := folderNames[s.profile]
		for n := range folders {
			s.message(t, fmt.Sprintf(name, n), n)
		}
		dest, written := destination(t, kind)
		first, last := -1, -1
		replace := func(path []string, _ string) {
			n := 0
			for !strings.Contains(show(path), fmt.Sprintf("F%d", n)) {
				n++
			}
			if first < 0 {
				first = n
			}
			if first == n || last >= 0 {
				return
			}
			last = folders - first - n
			must(t, os.RemoveAll(s.file(fmt.Sprintf(name, first))))
			must(t, os.Rename(s.file(fmt.Sprintf(name, last)), s.file(fmt.Sprintf(name, first))))
		}
		o := s.options(t, f, &watched{dest, replace})
		var problems []error
		o.Problem = func(_ string, err error) { problems = append(problems, err) }
		report, err := Run(t.Context(), o)
		must(t, err)
		out := written()
		for n := range folders {
			if got := strings.Count(out, marker(n)); (got == 1) != (n != last) {
				t.Errorf("message %d is there %d times", n, got)
			}
		}
		if len(problems) != 1 || !errors.Is(problems[0], errNames) || report.Failed != 1 || report.Messages != folders-1 {
			t.Errorf("%+v, %v", report, problems)
		}
	})
}

// TestFolderBack gives a folder another name while it is read, and its own before it is looked for again.
func TestFolderBack(t *testing.T) {
	t.Parallel()
	e := &exporter{ctx: t.Context()}
	e.Problem = func(string, error) {}
	at := []string{"folder"}
	must(t, e.root(nil, func() error {
		first, err := e.first(at, 1)
		if first {
			e.lost(at)
		}
		return err
	}))
	if e.report.Failed != 1 {
		t.Errorf("%+v", e.report)
	}
}

// pausing calls paused whenever something waits for its end.
type pausing struct {
	context.Context
	paused func()
}

func (p *pausing) Done() <-chan struct{} {
	p.paused()
	return p.Context.Done()
}

// TestIndexGone: an index of Cyrus that is gone went with its mailbox, or comes again; else it is damage.
func TestIndexGone(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(s *plainStore) error{
		"":        func(*plainStore) error { return nil },
		"mailbox": func(s *plainStore) error { return os.RemoveAll(s.file("")) },
		"again":   func(s *plainStore) error { return os.WriteFile(s.file(indexName), []byte(emptyIndex()), 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, "cyrus")
			s.write(t, "cyrus.header", "")
			pauses := 0
			ctx := &pausing{t.Context(), func() {
				if pauses++; pauses == 2 {
					must(t, change(s))
				}
			}}
			e := &exporter{Options: s.options(t, Mbox, nil), ctx: ctx}
			e.Problem = func(string, error) {}
			dir, err := e.Store.Dir([]string{"user", "alice"})
			must(t, err)
			defer dir.Close()
			records := (&box{exporter: e, dir: dir}).index()
			if (e.report.Failed == 1) != (what == "") || (records != nil) != (what == "again") || pauses < 2 {
				t.Errorf("%v, %+v after %d pauses", records, e.report, pauses)
			}
		})
	}
}

// TestInterrupted: what changes all the time does not keep an export from being ended.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	passes := 0
	e := &exporter{ctx: &pausing{ctx, cancel}}
	e.Problem = func(path string, err error) { t.Errorf("%s: %v", path, err) }
	err := e.settle(nil, func(int) (more, missed bool, err error) {
		passes++
		return true, true, nil
	})
	if !errors.Is(err, context.Canceled) || passes != relists {
		t.Errorf("%v after %d passes", err, passes)
	}
}
