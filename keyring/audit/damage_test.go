package audit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const january = "2026-01.mx1.log"

// TestDamage changes a log of 31 lines, the head of which is at line 31, in ways of somebody who cannot make MACs.
func TestDamage(t *testing.T) {
	t.Parallel()
	const events = 30
	for _, tt := range []struct {
		name   string
		change func(l []string) []string
		want   []string
		after  []string // once one more event was written; nil: the same
		detail string   // in the first problem
	}{
		{"nothing", func(l []string) []string { return l }, nil, nil, ""},
		{"a changed text", func(l []string) []string { l[9] = strings.Replace(l[9], "alice", "carol", 1); return l },
			[]string{Changed}, nil, "changed, or put in"},
		{"a changed MAC", func(l []string) []string { l[9] = l[9][:len(l[9])-6] + "000\"}\n"; return l }, []string{Changed}, nil, ""},
		{"two changed lines", func(l []string) []string { l[9], l[10] = "{}\n", "\n"; return l }, []string{Changed, Changed}, nil, ""},
		{"an added field", func(l []string) []string { l[9] = strings.Replace(l[9], `{"seq"`, `{"x":1,"seq"`, 1); return l }, []string{Changed}, nil, ""},
		{"a removed line", func(l []string) []string { return slices.Delete(l, 9, 10) }, []string{Removed}, nil, "lines 10 to 10"},
		{"the first lines removed", func(l []string) []string { return slices.Delete(l, 0, 4) }, []string{Removed}, nil, "lines 1 to 4"},
		{"two lines swapped", func(l []string) []string { l[9], l[10] = l[10], l[9]; return l }, []string{Moved}, nil, "line 10 does not stand"},
		{"a line moved to the end", func(l []string) []string { return append(slices.Delete(slices.Clone(l), 9, 10), l[9]) }, []string{Moved}, nil, ""},
		{"a line repeated", func(l []string) []string { return slices.Insert(l, 20, l[9]) }, []string{Moved}, nil, "once more"},
		{"a line put in", func(l []string) []string { return slices.Insert(l, 20, strings.Replace(l[9], "alice", "carol", 1)) },
			[]string{Changed}, nil, ""},
		{"a line too long", func(l []string) []string { return slices.Insert(l, 20, strings.Repeat("x", 3*maxLine)+"\n") }, []string{Changed}, nil, ""},
		{"the end cut off", func(l []string) []string { return l[:25] }, []string{Cut}, []string{Noted}, "lines 26 to 31 are missing at the end"},
		{"everything cut off", func([]string) []string { return nil }, []string{Cut}, []string{Noted}, ""},
		{"removed and changed", func(l []string) []string { l[9] = "{}\n"; return slices.Delete(l, 12, 15) }, []string{Changed, Removed}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			l := b.open("mx1")
			b.some(l, events)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			b.write(january, tt.change(b.lines(january)))
			s := b.wantKinds(tt.want...)
			if s.Damaged() != (len(tt.want) > 0) {
				t.Errorf("damaged: %v", s.Damaged())
			}
			if len(tt.want) > 0 && !strings.Contains(s.Problems[0].Detail, tt.detail) {
				t.Errorf("%q does not say %q", s.Problems[0].Detail, tt.detail)
			}
			if tt.after == nil {
				tt.after = tt.want
			}
			again := b.open("mx1")
			b.some(again, 2)
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			b.wantKinds(tt.after...)
		})
	}
}

// TestReadLeavesOut shows everything but the line that cannot be trusted.
func TestReadLeavesOut(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open("mx1")
	b.some(l, 6)
	lines := b.lines(january)
	lines[3] = strings.Replace(lines[3], "alice", "carol", 1)
	b.write(january, lines)
	n := 0
	err := Read(b.store, b.keys, "", func(e Event) error {
		if e.User == "carol" {
			t.Errorf("a forged event: %+v", e)
		}
		n++
		return nil
	})
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "line 4") || n != 6 {
		t.Errorf("%d events, %v", n, err)
	}
}

// TestFilesGone removes, renames and exchanges files.
func TestFilesGone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, path func(string) string) error
		want   []string
		damage bool
	}{
		{"the first segment", func(_ *testing.T, path func(string) string) error { return os.Remove(path(january)) }, []string{Removed}, true},
		{"the last segment", func(_ *testing.T, path func(string) string) error { return os.Remove(path("2026-03.mx1.log")) }, []string{Cut}, true},
		{"the one between", func(_ *testing.T, path func(string) string) error { return os.Remove(path("2026-02.mx1.log")) }, []string{Removed}, true},
		{"all segments", func(_ *testing.T, path func(string) string) error {
			return errors.Join(os.Remove(path(january)), os.Remove(path("2026-02.mx1.log")), os.Remove(path("2026-03.mx1.log")))
		}, []string{Cut}, true},
		{"the head", func(_ *testing.T, path func(string) string) error { return os.Remove(path("mx1.head")) }, []string{Noted}, false},
		{"a damaged head", func(_ *testing.T, path func(string) string) error { return os.Truncate(path("mx1.head"), 100) }, []string{Noted}, false},
		{"a segment of another host", func(_ *testing.T, path func(string) string) error {
			return os.Rename(path("2026-03.mx1.log"), path("2026-03.mx2.log"))
		}, []string{Cut, Changed, Changed, Changed, Changed}, true},
		{"another month", func(_ *testing.T, path func(string) string) error {
			return os.Rename(path("2026-03.mx1.log"), path("2025-03.mx1.log"))
		}, []string{Moved, Moved, Moved, Moved, Moved, Moved, Moved, Moved}, true},
		{"a foreign file", func(_ *testing.T, path func(string) string) error { return os.WriteFile(path("notes"), nil, 0o600) }, []string{Foreign}, false},
		{"another version", func(t *testing.T, path func(string) string) error {
			b, err := os.ReadFile(path("2026-03.mx1.log"))
			if err != nil {
				t.Fatal(err)
			}
			return os.WriteFile(path("2026-03.mx1.log"), []byte(strings.Replace(string(b), `"version":1`, `"version":2`, 1)), 0o600)
		}, []string{Unsupported}, true},
		{"a symbolic link", func(_ *testing.T, path func(string) string) error {
			return errors.Join(os.Rename(path("2026-03.mx1.log"), path("x")), os.Symlink("x", path("2026-03.mx1.log")))
		}, []string{Foreign, Unreadable}, true},
		{"a FIFO", func(_ *testing.T, path func(string) string) error {
			return errors.Join(os.Remove(path("2026-03.mx1.log")), unix.Mkfifo(path("2026-03.mx1.log"), 0o600))
		}, []string{Unreadable}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for month := range time.Month(3) {
				b.clock = time.Date(2026, month+1, 1, 0, 0, 0, 0, time.UTC)
				l := b.open("mx1")
				b.some(l, 3)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			b.wantKinds()
			if err := tt.change(t, b.path); err != nil {
				t.Fatal(err)
			}
			if s := b.wantKinds(tt.want...); s.Damaged() != tt.damage {
				t.Errorf("damaged: %v", s.Damaged())
			}
		})
	}
}

// TestVerifyBesideWriters lets chains begin, go on, and reach another month while a verification is between heads and
// segments.
func TestVerifyBesideWriters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	mx1 := b.open("mx1")
	b.some(mx1, 3)
	dir, err := openDir(b.store, false)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	heads, err := openHeads(dir, b.keys.Audit)
	if err != nil {
		t.Fatal(err)
	}
	b.some(mx1, 2)
	b.clock = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	b.some(mx1, 4)
	b.some(b.open("mx2"), 4)
	var s Summary
	if err := s.judge(dir, heads, b.keys.Audit); err != nil || len(s.Problems) > 0 || s.Hosts != 2 || s.Segments != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestSegmentsGone goes on with the numbers that were given away, and says in the log that lines are gone.
func TestSegmentsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open("mx1")
	b.some(l, 4)
	if err := os.Remove(b.path(january)); err != nil {
		t.Fatal(err)
	}
	b.some(l, 1)
	if s := b.wantKinds(Noted); !strings.Contains(s.Problems[0].Detail, "line 5 was written before, and line 0 is the last one now") {
		t.Errorf("%+v", s)
	}
	if got := b.lines(january); len(got) != 3 || !strings.Contains(got[0], `"seq":6`) {
		t.Errorf("%v", got)
	}
}

// TestTorn leaves what an interrupted write leaves: part of a line, zero bytes, an empty segment.
func TestTorn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, month, rest string }{
		{"part of a line", "01", `{"seq":5,"time":"2026-01-02T03:0`},
		{"zero bytes", "01", strings.Repeat("\x00", 4096)},
		{"part of a first line", "02", `{"log":"mail`},
		{"an empty segment", "02", ""},
		{"a long rest", "01", strings.Repeat("x", 5*maxLine)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			l := b.open("mx1")
			b.some(l, 3)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(b.path("2026-"+tt.month+".mx1.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(tt.rest); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			want := []string{Unfinished}
			if tt.rest == "" {
				want = nil
			}
			if s := b.wantKinds(want...); s.Damaged() {
				t.Error("an interrupted write is damage")
			}
			if got := b.events(""); len(got) != 4 {
				t.Errorf("%d events", len(got))
			}
			again := b.open("mx1")
			b.some(again, 2)
			if want != nil {
				want = []string{Noted}
			}
			if s := b.wantKinds(want...); s.Damaged() {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestFullDisk fills a small file system: no event gets through until there is room again, and then the log says so.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir := filepath.Join(b.store, recordsName)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	l := b.open("mx1")
	b.some(l, 3)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for range 40 { // the last page of the segment takes some more
		if err := l.Append(Event{User: "alice", What: Unlock, Detail: strings.Repeat("x", 300)}); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			lost++
		}
	}
	if lost < 20 || l.Lost() != lost {
		t.Fatalf("%d lost, %d counted", lost, l.Lost())
	}
	if s := b.verify(); len(s.Problems) > 0 {
		t.Errorf("on the full disk: %+v", s)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := b.wantKinds(Noted)
	if s.Damaged() || l.Lost() != 0 || !strings.Contains(s.Problems[0].Detail, "no space left") {
		t.Errorf("%d lost, %+v", l.Lost(), s)
	}
}
