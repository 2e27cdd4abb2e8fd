// Package mountpoint looks after the directory that the view is mounted on: what is mounted there now, a dead mount that
// a killed daemon left, and a guard that keeps mail out of the bare directory while nothing is mounted.
package mountpoint

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FSType is the file system type of a view in /proc/self/mountinfo.
const FSType = "fuse.mailcryptfs"

// Mount is one line of /proc/self/mountinfo (proc(5)), as far as it matters here.
type Mount struct {
	Point  string // absolute, unescaped
	Type   string
	Source string
	Minor  uint32 // minor device number: names the connection of a FUSE mount
}

// At returns what is mounted at exactly this path, the topmost mount last. path is absolute and has no symbolic links.
func At(path string) ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what is mounted: %w", err)
	}
	defer f.Close()
	return parse(f, path)
}

func parse(r io.Reader, path string) ([]Mount, error) {
	var found []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(tail) < 2 {
			return nil, fmt.Errorf("cannot read mountinfo line %q", lines.Text())
		}
		if point := unescape(fields[4]); point == path {
			_, minor, _ := strings.Cut(fields[2], ":")
			n, err := strconv.ParseUint(minor, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("cannot read mountinfo line %q", lines.Text())
			}
			found = append(found, Mount{Point: point, Type: tail[0], Source: unescape(tail[1]), Minor: uint32(n)})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read mountinfo: %w", err)
	}
	return found, nil
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Resolve returns path with the symbolic links of its parent resolved, as the kernel lists it. The last component need
// not exist, and may be a dead mount.
func Resolve(path string) (string, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("cannot resolve the directory above %s: %w", path, err)
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}
