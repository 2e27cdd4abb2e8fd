package posix

import (
	"maps"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

// wrong are the functions of posixtest that demand what POSIX forbids, each with what takes its place. go-fuse's own run
// over a plain directory leaves this one out too.
func wrong() map[string]string {
	return map[string]string{
		"FcntlFlockLocksFile": "wants two handles of one process to exclude each other; FcntlSameProcess has fcntl(2)'s rule",
	}
}

func posixtestCases() []testCase {
	var all []testCase
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if wrong()[name] != "" {
			continue
		}
		all = append(all, testCase{name: "Posixtest" + name, run: func(t *testing.T, p *place) {
			t.Helper()
			if name == "Tmpfile" && !temporaryFiles(p.dir) {
				return // O_TMPFILE may be refused; testTemporaryFile says how
			}
			var inner *testing.T
			t.Run("In", func(t *testing.T) {
				inner = t
				posixtest.All[name](t, p.dir)
			})
			if inner != nil && inner.Skipped() {
				t.Errorf("%s skipped itself: see its output for what the filesystem lacks", name)
			}
		}})
	}
	return all
}

// temporaryFiles says whether the filesystem knows O_TMPFILE.
func temporaryFiles(dir string) bool {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
}
