package posix

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, harness.Procs{
		"append":    childAppend,
		"fcntl":     childFcntl,
		"flock":     childFlock,
		"write":     childWrite,
		"replace":   childReplace,
		"dotlock":   childDotlock,
		"churn":     childChurn,
		"as":        childAs,
		"counter":   childCounter,
		"mapwriter": childMapWriter,
	}))
}

// place is where a case runs.
type place struct {
	dir     string             // an empty directory of its own
	plain   bool               // not in a view
	inCur   bool               // dir is the cur/ of a maildir folder
	refresh func(t *testing.T) // forget all caches: the filesystem is mounted anew, or the daemon restarted; open files end
}

// testCase is one property of a filesystem.
type testCase struct {
	name string
	run  func(t *testing.T, p *place)
}

func cases() []testCase {
	return []testCase{
		{"Appenders", testAppenders},
		{"AppendThenTruncate", testAppendThenTruncate},
		{"FcntlLocks", testFcntlLocks},
		{"FcntlSameProcess", testFcntlSameProcess},
		{"FcntlWaits", testFcntlWaits},
		{"FcntlCounter", testFcntlCounter},
		{"Flock", testFlock},
		{"MapSeesWrites", testMapSeesWrites},
		{"MapSeesGrowth", testMapSeesGrowth},
		{"MapWritable", testMapWritable},
		{"MapWriterProcess", testMapWriterProcess},
		{"RenameOverOpen", testRenameOverOpen},
		{"RenameWhileOpening", testRenameWhileOpening},
		{"RenameFlags", testRenameFlags},
		{"RenameDirectories", testRenameDirectories},
		{"Unlinked", testUnlinked},
		{"UnlinkedDirectory", testUnlinkedDirectory},
		{"HardLinks", testHardLinks},
		{"LinkThenAppend", testLinkThenAppend},
		{"DotlockByLink", testDotlockByLink},
		{"ExclusiveRace", testExclusiveRace},
		{"LargeDirectory", testLargeDirectory},
		{"DirectoryOffsets", testDirectoryOffsets},
		{"InodeNumbers", testInodeNumbers},
		{"Sparse", testSparse},
		{"TruncateSizes", testTruncateSizes},
		{"Fallocate", testFallocate},
		{"RandomOperations", testRandomOperations},
		{"Times", testTimes},
		{"DirectoryTimes", testDirectoryTimes},
		{"Attributes", testXattrs},
		{"Symlinks", testSymlinks},
		{"SpecialFiles", testSpecialFiles},
		{"Names", testNames},
		{"NamesLikeEncrypted", testNamesLikeEncrypted},
		{"DeepPath", testDeepPath},
		{"TemporaryFile", testTemporaryFile},
		{"Inotify", testInotify},
		{"Modes", testModes},
		{"Umask", testUmask},
		{"Statfs", testStatfs},
		{"Sync", testSync},
		{"Copies", testCopies},
		{"ACL", testACL},
		{"OpenFlags", testOpenFlags},
		{"PermissionsOneUID", testPermissionsOneUID},
		{"PermissionsUIDs", testPermissionsUIDs},
	}
}

// TestPlain runs the cases on plain ext4.
func TestPlain(t *testing.T) {
	fs, _ := harness.Image{}.Mounted(t)
	refresh := func(t *testing.T) {
		t.Helper()
		harness.Run(t, "mount", "-o", "remount", fs)
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			t.Fatal(err)
		}
	}
	runAll(t, func(t *testing.T, name string) *place {
		t.Helper()
		return &place{dir: mkdir(t, fs, name), plain: true, refresh: refresh}
	})
}

// TestView runs the cases on the view of one daemon: alice is unlocked, bob is locked.
func TestView(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice", "bob")
	s.Unlock(t, "alice")
	mkdir(t, s.View, "alice")
	mkdir(t, s.View, "bob")
	restart := func(t *testing.T) {
		t.Helper()
		s.Stop(t)
		s.Serve(t)
	}
	t.Run("Meta", func(t *testing.T) {
		runAll(t, func(t *testing.T, name string) *place {
			t.Helper()
			t.Cleanup(func() { s.CheckLog(t) })
			return &place{dir: mkdir(t, s.View, "alice", name+".d"), refresh: restart}
		})
	})
	t.Run("Private", func(t *testing.T) {
		runAll(t, func(t *testing.T, name string) *place {
			t.Helper()
			t.Cleanup(func() { s.CheckLog(t) })
			return &place{dir: mkdir(t, mkdir(t, s.View, "alice", "."+name), "cur"), inCur: true, refresh: restart}
		})
	})
	t.Run("Locked", func(t *testing.T) {
		runAll(t, func(t *testing.T, name string) *place {
			t.Helper()
			t.Cleanup(func() { s.CheckLog(t) })
			return &place{dir: mkdir(t, mkdir(t, s.View, "bob", "."+name), "cur"), inCur: true}
		})
	})
}

// runAll runs every case, and every function of go-fuse's posixtest, each in a place of its own.
func runAll(t *testing.T, at func(t *testing.T, name string) *place) {
	t.Helper()
	for _, c := range append(cases(), posixtestCases()...) {
		t.Run(c.name, func(t *testing.T) { c.run(t, at(t, c.name)) })
	}
}

// mkdir makes a directory of mode 0755 and returns its path.
func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// path is a name in the place's directory.
func (p *place) path(format string, args ...any) string {
	return filepath.Join(p.dir, fmt.Sprintf(format, args...))
}
