package check

import (
	"fmt"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/keyring/audit"
)

// auditLog checks the audit log (L1 to L7).
func (r *run) auditLog() {
	path := strings.Join([]string{r.o.Store, names.KeyDir, auditName}, "/")
	r.auditAccess(path)
	sum, err := audit.Verify(r.frozen, r.o.Site)
	r.tally.add(func(s *Summary) { s.Audit += int64(sum.Lines) })
	for _, p := range sum.Problems {
		f := Finding{Kind: Kind(p.Kind), Store: join(path, p.Segment), Detail: p.Detail}
		if p.Line > 0 {
			f.Detail = fmt.Sprintf("line %d: %s", p.Line, p.Detail)
		}
		r.found(f)
	}
	if err != nil {
		r.found(Finding{Kind: AuditUnreadable, Store: path, Detail: strings.ReplaceAll(err.Error(), r.frozen, r.o.Store)})
	}
}

// auditAccess checks owner and mode of the log's directory and files (L1). What cannot be looked at, audit.Verify reports.
func (r *run) auditAccess(path string) {
	k := &recordsRun{run: r}
	records, err := r.root.OpenDir(names.KeyDir)
	if err != nil {
		return // reported with the records
	}
	defer records.Release()
	dir, err := k.openDir(records, auditName, path, "")
	if err != nil {
		return // nothing has happened yet, or audit.Verify says why
	}
	defer dir.Release()
	_ = k.list(dir, path, "", func(name string) error { // an end of the context ends the whole run
		if st, err := dir.Stat(name); err == nil {
			k.access(&st, join(path, name), "")
		}
		return nil
	})
}
