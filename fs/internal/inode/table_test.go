package inode

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/backing"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/names"
	"github.com/mailcryptfs/mailcryptfs/fs/internal/route"
)

func newTable(t *testing.T) *Table {
	t.Helper()
	dir, err := backing.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	st, err := dir.StatSelf()
	if err != nil {
		t.Fatal(err)
	}
	policy, err := route.New("maildir", "%u", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	table := NewTable(dir, st, policy, 0)
	t.Cleanup(table.Close)
	return table
}

// TestForgottenMeanwhile has the kernel forget an inode that somebody is about to change: a conversion under way, whose
// new file it becomes, and whose old number another file gets.
func TestForgottenMeanwhile(t *testing.T) {
	table := newTable(t)
	file := func(ino uint64, born int64) *backing.Stat {
		return &backing.Stat{Ino: ino, Btime: born, Mode: unix.S_IFREG, Nlink: 1}
	}
	alias := func(name string) Alias {
		return Alias{Parent: table.Root, Name: name, Stored: names.Stored{Kind: names.Encrypted, Name: name}}
	}
	for what, change := range map[string]func(n *Inode){
		"conversion": func(n *Inode) { table.Rebind(n, file(20, 2), alias("a")) },
		"rename":     func(n *Inode) { table.AddAlias(n, alias("b")) },
		"removal":    func(n *Inode) { table.DropAlias(n, table.Root, "a", true) },
	} {
		n := table.Ref(file(10, 1), alias("a"))
		table.Forget(n.ID, 1)
		reused := table.Ref(file(10, 3), alias("c"))
		change(n)
		if m := table.Known(table.Root, file(20, 2), alias("a").Stored); m != nil {
			t.Errorf("%s: the table holds inode %d, which the kernel has forgotten", what, m.ID)
		}
		if m := table.Known(table.Root, file(10, 3), alias("c").Stored); m != reused {
			t.Errorf("%s: the file that got the number is not known any more", what)
		}
		if got := table.Aliases(n); len(got) != 0 {
			t.Errorf("%s: a forgotten inode has the names %v", what, got)
		}
		table.Forget(reused.ID, 1)
		if table.Len() != 1 {
			t.Errorf("%s: %d inodes are left, want the root", what, table.Len())
		}
	}
}
