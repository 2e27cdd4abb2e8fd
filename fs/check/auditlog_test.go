package check

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
)

// auditFile returns the one file of the audit log whose name ends like that.
func (f *fixture) auditFile(suffix string) string {
	f.Helper()
	all, err := filepath.Glob(filepath.Join(f.store, ".mailcryptfs", "audit", "*"+suffix))
	must(f, err)
	if len(all) != 1 {
		f.Fatalf("%v", all)
	}
	return all[0]
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		do     func(f *fixture) string // returns where the finding is to be
		kind   Kind
		detail string
	}{
		{name: "whole", do: func(*fixture) string { return "" }},
		{name: "changed", kind: AuditChanged, detail: "line 2: the line does not authenticate",
			do: func(f *fixture) string { return rewrite(f, f.auditFile(".log"), "alice", "carol") }},
		{name: "cut", kind: AuditCut, detail: "lines 1 to 4 are missing",
			do: func(f *fixture) string {
				must(f, os.Truncate(f.auditFile(".log"), 0))
				return f.auditFile(".log")
			}},
		{name: "torn", kind: AuditUnfinished, detail: "line 5: ",
			do: func(f *fixture) string {
				file, err := os.OpenFile(f.auditFile(".log"), os.O_WRONLY|os.O_APPEND, 0)
				must(f, err)
				_, err = file.WriteString("{")
				must(f, err)
				must(f, file.Close())
				return f.auditFile(".log")
			}},
		{name: "mode", kind: RecordAccess, detail: "0644",
			do: func(f *fixture) string {
				must(f, os.Chmod(f.auditFile(".log"), 0o644))
				return f.auditFile(".log")
			}},
		{name: "not a directory", kind: AuditUnreadable, detail: "not a directory",
			do: func(f *fixture) string {
				dir := filepath.Dir(f.auditFile(".log"))
				must(f, os.RemoveAll(dir))
				must(f, os.WriteFile(dir, nil, 0o600))
				return dir
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := standard(t)
			l, err := audit.Open(f.store, f.site, slog.New(slog.DiscardHandler))
			must(t, err)
			for _, u := range []string{"alice", "bob", "alice"} {
				must(t, l.Append(audit.Event{What: audit.Enroll, By: u}))
			}
			must(t, l.Close())
			path := tt.do(f)
			before := snapshot(t, f.store)
			found, s := f.verify(f.options())
			if d := difference(before, snapshot(t, f.store)); d != "" {
				t.Errorf("the store changed: %s", d)
			}
			if path == "" {
				if len(found) != 0 || s.Audit != 4 {
					t.Errorf("%+v %+v", found, s)
				}
				return
			}
			if len(found) != 1 || found[0].Kind != tt.kind || found[0].Store != path || !strings.Contains(found[0].Detail, tt.detail) {
				t.Errorf("got %+v, want %s in %s with %q", found, tt.kind, path, tt.detail)
			}
			if found[0].Damage == tt.kind.Informational() {
				t.Errorf("damage: %v", found[0].Damage)
			}
		})
	}
}
