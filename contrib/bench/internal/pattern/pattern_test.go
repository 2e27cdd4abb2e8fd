package pattern

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// few are fixtures small enough for a test.
var few = Settings{Entries: 40, Sequential: 4 * chunk}

// inspections look at the mailbox between the operations of a pattern and its Finish, as somebody who does not know how
// the pattern works. n is the number of operations.
func inspections() map[string]func(t *testing.T, dir string, n int) {
	return map[string]func(t *testing.T, dir string, n int){
		"deliver-fsync": delivered,
		"deliver":       delivered,
		"read-warm": func(t *testing.T, dir string, _ int) {
			wantMessages(t, dir+"/.Warm/cur", warmMessages, messageSize, ":2,")
		},
		"read-cold":        func(t *testing.T, dir string, n int) { wantMessages(t, dir+"/.Cold/cur", n, messageSize, ":2,") },
		"mmap-read":        func(t *testing.T, dir string, _ int) { wantFile(t, dir+"/dovecot.index.log", logSize) },
		"append-fdatasync": appended("dovecot.index.log"),
		"append":           appended("dovecot.index.log"),
		"reopen-append":    appended("dovecot-uidlist"),
		"dotlock-excl":     func(t *testing.T, dir string, _ int) { wantNames(t, dir, "lock", 0) },
		"dotlock-link":     func(t *testing.T, dir string, _ int) { wantNames(t, dir, "lock", 0) },
		"flag-rename": func(t *testing.T, dir string, n int) {
			wantNames(t, dir+"/.Warm/cur", ":2,", warmMessages)
			wantNames(t, dir+"/.Warm/cur", ":2,S", n) // n is less than the messages: each renamed once
		},
		"link": func(t *testing.T, dir string, n int) {
			wantMessages(t, dir+"/.Copies/cur", n, messageSize, ":2,")
			for _, path := range entries(t, dir+"/.Copies/cur") {
				if st, err := stat(path); err != nil || st.Nlink != 2 {
					t.Errorf("%s has %d links (%v), want 2", path, st.Nlink, err)
				}
			}
		},
		"unlink": func(t *testing.T, dir string, _ int) { wantNames(t, dir+"/.Trash/cur", "", 0) },
		"stat-hit": func(t *testing.T, dir string, _ int) {
			wantMessages(t, dir+"/.Warm/cur", warmMessages, messageSize, ":2,")
		},
		"stat-miss": func(t *testing.T, dir string, _ int) { wantNames(t, dir+"/cur", "", 0) },
		"rewrite": func(t *testing.T, dir string, _ int) {
			wantFile(t, dir+"/dovecot.index", indexSize)
			wantNames(t, dir, "dovecot.index.tmp", 0)
		},
		"imap-mix":       mixed,
		"seq-write":      func(t *testing.T, dir string, n int) { wantMessages(t, dir+"/cur", 1, n*chunk, ":2,") },
		"seq-read-first": func(t *testing.T, dir string, _ int) { wantMessages(t, dir+"/.Large/cur", 1, few.Sequential, ":2,") },
		"seq-read-warm":  func(t *testing.T, dir string, _ int) { wantMessages(t, dir+"/.Large/cur", 1, few.Sequential, ":2,") },
		"readdir-warm":   big,
		"readdir-cold":   big,
		"list-stat-warm": big,
		"list-stat-cold": big,
	}
}

func TestPatternsDoWhatTheySay(t *testing.T) {
	inspect := inspections()
	for _, p := range All(few) {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b, err := NewBox(dir, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{4, 8} { // twice: fixtures stay, all else must be gone
				if p.MaxOps == p.MinOps && p.Bytes > 0 {
					n = p.MinOps
				}
				b.Reseed(uint64(n))
				run, err := p.Start(b, n)
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					if err := run.Op(i); err != nil {
						t.Fatalf("operation %d: %v", i, err)
					}
				}
				inspect[p.Name](t, dir, n)
				if err := run.Finish(); err != nil {
					t.Fatal(err)
				}
			}
			wantOnlyFixtures(t, dir)
		})
	}
}

// TestPatternsNotice damages what a pattern works on: it must not go on as if nothing were.
func TestPatternsNotice(t *testing.T) {
	tests := []struct {
		pattern string
		file    string // glob, below the mailbox
		damage  func(path string) error
		during  bool // an operation must fail, not only Finish
	}{
		{"read-warm", ".Warm/cur/*", func(path string) error { return os.Truncate(path, messageSize-1) }, true},
		{"read-warm", ".Warm/cur/*", os.Remove, true},
		{"stat-hit", ".Warm/cur/*", func(path string) error { return os.Truncate(path, messageSize-1) }, true},
		{"mmap-read", "dovecot.index.log", func(path string) error { return os.Truncate(path, logSize-1) }, true},
		{"readdir-warm", ".Big/cur/*", os.Remove, true},
		{"list-stat-warm", ".Big/cur/*", func(path string) error { return os.Truncate(path, 0) }, true},
		{"imap-mix", ".Mix/cur/*", func(path string) error { return os.Truncate(path, 7) }, true},
		{"append", "dovecot.index.log", func(path string) error { return os.Truncate(path, 1) }, false},
		{"seq-read-warm", ".Large/cur/*", func(path string) error { return os.Truncate(path, chunk) }, true},
	}
	for _, test := range tests {
		t.Run(test.pattern+" "+test.file, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b, err := NewBox(dir, 1)
			if err != nil {
				t.Fatal(err)
			}
			run, err := find(t, test.pattern).Start(b, 200)
			if err != nil {
				t.Fatal(err)
			}
			paths, err := filepath.Glob(filepath.Join(dir, test.file))
			if err != nil || len(paths) == 0 {
				t.Fatalf("nothing to damage: %v", err)
			}
			for _, path := range paths {
				if err := test.damage(path); err != nil {
					t.Fatal(err)
				}
			}
			for i := 0; i < 200 && err == nil; i++ {
				err = run.Op(i)
			}
			if test.during && err == nil {
				t.Error("no operation failed")
			}
			if finish := run.Finish(); err == nil && finish == nil {
				t.Error("Finish did not fail either")
			}
		})
	}
}

func TestSameSeedSameOperations(t *testing.T) {
	var seen [2][]string
	for i := range seen {
		dir := t.TempDir()
		b, err := NewBox(dir, 3)
		if err != nil {
			t.Fatal(err)
		}
		b.Reseed(5)
		run, err := find(t, "imap-mix").Start(b, 100)
		if err != nil {
			t.Fatal(err)
		}
		for op := range 100 {
			if err := run.Op(op); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range entries(t, dir+"/.Mix/cur") {
			seen[i] = append(seen[i], filepath.Base(path))
		}
		if err := run.Finish(); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := strings.Join(seen[0], "\n"), strings.Join(seen[1], "\n"); a != b {
		t.Errorf("two mailboxes differ:\n%s\n\n%s", a, b)
	}
}

func find(t *testing.T, name string) Pattern {
	t.Helper()
	for _, p := range All(few) {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no pattern %q", name)
	return Pattern{}
}

func delivered(t *testing.T, dir string, n int) {
	t.Helper()
	wantNames(t, dir+"/tmp", "", 0)
	wantNames(t, dir+"/new", "", n)
	for _, path := range entries(t, dir+"/new") {
		size := nameSize(t, path)
		if size < minMessage || size > maxMessage {
			t.Errorf("%s has %d bytes, want %d to %d", path, size, minMessage, maxMessage)
		}
		wantFile(t, path, size)
	}
}

func appended(name string) func(t *testing.T, dir string, n int) {
	return func(t *testing.T, dir string, n int) {
		t.Helper()
		wantFile(t, filepath.Join(dir, name), logStart+n*record)
	}
}

func mixed(t *testing.T, dir string, _ int) {
	t.Helper()
	wantNames(t, dir+"/.Mix/tmp", "", 0)
	wantNames(t, dir+"/.Mix", ".lock", 0)
	for _, path := range entries(t, dir+"/.Mix/cur") {
		wantFile(t, path, nameSize(t, path))
	}
}

func big(t *testing.T, dir string, _ int) {
	t.Helper()
	wantMessages(t, dir+"/.Big/cur", few.Entries, entrySize, ":2,")
}

var sizeInName = regexp.MustCompile(`,S=(\d+),`)

func nameSize(t *testing.T, path string) int {
	t.Helper()
	m := sizeInName.FindStringSubmatch(path)
	if m == nil {
		t.Fatalf("%s has no size in its name", path)
	}
	size, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// wantFile checks size and content: text, as every message is, and not the same byte throughout.
func wantFile(t *testing.T, path string, size int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if len(data) != size {
		t.Errorf("%s has %d bytes, want %d", path, len(data), size)
	}
	if bytes.IndexFunc(data, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		t.Errorf("%s has bytes that no message has", path)
	}
	if len(data) > 0 && bytes.Count(data, data[:1]) > len(data)/2 {
		t.Errorf("%s has one byte throughout", path)
	}
}

func wantMessages(t *testing.T, dir string, n, size int, info string) {
	t.Helper()
	paths := entries(t, dir)
	if len(paths) < n {
		t.Errorf("%s has %d messages, want %d", dir, len(paths), n)
	}
	for _, path := range paths {
		wantFile(t, path, size)
		if !strings.HasSuffix(path, info) {
			t.Errorf("%s does not end in %s", path, info)
		}
	}
}

// wantNames checks how many entries of a directory have a text in their names.
func wantNames(t *testing.T, dir, text string, n int) {
	t.Helper()
	count := 0
	for _, path := range entries(t, dir) {
		if strings.Contains(filepath.Base(path), text) {
			count++
		}
	}
	if count != n {
		t.Errorf("%s has %d entries with %q, want %d", dir, count, text, n)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	paths := make([]string, len(all))
	for i, e := range all {
		paths[i] = filepath.Join(dir, e.Name())
	}
	return paths
}

// wantOnlyFixtures checks that a finished pattern left no file but in the folders that are meant to stay.
func wantOnlyFixtures(t *testing.T, dir string) {
	t.Helper()
	stay := regexp.MustCompile(`^/\.(Warm|Cold|Big|Large)/cur/`)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if rest := strings.TrimPrefix(path, dir); err == nil && !d.IsDir() && !stay.MatchString(rest) {
			t.Errorf("%s stayed", rest)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
