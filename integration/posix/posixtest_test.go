package posix

import (
	"maps"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// mayRefuse are the functions of posixtest that skip themselves on filesystems that refuse something which ours may refuse
// too; any other that skips itself has found a fault.
func mayRefuse() map[string]string {
	return map[string]string{
		"Tmpfile": "O_TMPFILE may be refused with EOPNOTSUPP",
	}
}

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
			var inner *testing.T
			t.Run("In", func(t *testing.T) {
				inner = t
				posixtest.All[name](t, p.dir)
			})
			if inner != nil && inner.Skipped() && mayRefuse()[name] == "" {
				t.Errorf("%s skipped itself: see its output for what the filesystem lacks", name)
			}
		}})
	}
	return all
}
