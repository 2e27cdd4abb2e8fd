package audit

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// dirName is the directory of the log, below the directory of key records (FORMAT.md L1).
const (
	recordsName = ".mailcryptfs"
	dirName     = "audit"
	headSuffix  = ".head"
)

// segment is one file of the log: the lines of one host in one month.
type segment struct {
	month string // "2026-01"
	host  string // escaped as a user name is (FORMAT.md K8)
}

var segmentName = regexp.MustCompile(`\A([0-9]{4}-(?:0[1-9]|1[0-2]))\.(.+)\.log\z`)

func (s segment) name() string { return s.month + "." + s.host + ".log" }

func headName(host string) string { return host + headSuffix }

func monthOf(t time.Time) string { return t.UTC().Format("2006-01") }

// parseSegment tells whether a file name is one of a segment.
func parseSegment(name string) (segment, bool) {
	m := segmentName.FindStringSubmatch(name)
	if m == nil || !isHost(m[2]) {
		return segment{}, false
	}
	return segment{month: m[1], host: m[2]}, true
}

func isHost(s string) bool {
	_, err := account.Unescape(s)
	return err == nil
}

// hostName returns the escaped name of this machine.
func hostName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	name = strings.ReplaceAll(name, "/", "-")
	u, err := account.Parse(cmp.Or(name, "localhost"))
	if err != nil {
		return "", err
	}
	return u.Escape(), nil
}

// sortSegments sorts by host, then month.
func sortSegments(all []segment) {
	slices.SortFunc(all, func(a, b segment) int {
		return cmp.Or(strings.Compare(a.host, b.host), strings.Compare(a.month, b.month))
	})
}
