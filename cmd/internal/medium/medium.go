// Package medium tells what kind of storage a path lies on, as far as the kernel says: whoever stores the private half of a
// recovery key should know whether it stays on this machine.
package medium

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what a medium is.
type Kind int

// The kinds of media.
const (
	Fixed     Kind = iota // a disk of this machine, or anything that cannot be told from one
	Removable             // something that can be pulled out: USB, a memory card
	Network               // another host's disk
	Memory                // gone when the machine restarts
)

// Medium is what a path lies on.
type Medium struct {
	Kind   Kind
	Type   string // of the filesystem
	Source string // what is mounted, for people
	Point  string // where
}

// String describes the medium in a few words.
func (m Medium) String() string {
	what := map[Kind]string{
		Fixed: "a disk of this machine", Removable: "a removable medium", Network: "a filesystem of another host", Memory: "memory of this machine",
	}[m.Kind]
	return fmt.Sprintf("%s (%s %s on %s)", what, m.Type, m.Source, m.Point)
}

// Of returns the medium of a path that exists.
func Of(path string) (Medium, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return Medium{}, fmt.Errorf("cannot tell what %s lies on: %w", path, err)
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return Medium{}, fmt.Errorf("cannot tell what %s lies on: the kernel is too old", path)
	}
	m, err := mountOf(st.Mnt_id)
	if err != nil {
		return Medium{}, err
	}
	m.Kind = kindOf(m.Type, m.Source, "/sys/dev/block")
	return m, nil
}

// mountOf finds a mount by its id (proc(5), mountinfo).
func mountOf(id uint64) (Medium, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Medium{}, fmt.Errorf("cannot tell what is mounted: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if ok && len(fields) > 4 && len(tail) > 1 && fields[0] == strconv.FormatUint(id, 10) {
			return Medium{Type: tail[0], Source: unescape(tail[1]), Point: unescape(fields[4])}, nil
		}
	}
	return Medium{}, errors.Join(lines.Err(), fmt.Errorf("mount %d is not listed", id))
}

func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// kindOf judges by the type of the filesystem, and for disks by what the kernel says of the device. sys is where block
// devices are listed by number.
func kindOf(fstype, source, sys string) Kind {
	switch base, sub, _ := strings.Cut(fstype, "."); {
	case fstype == "tmpfs" || fstype == "ramfs":
		return Memory
	case strings.HasPrefix(fstype, "nfs"), strings.HasPrefix(fstype, "smb"), fstype == "cifs", fstype == "ceph", fstype == "afs", fstype == "9p",
		base == "fuse" && (sub == "sshfs" || sub == "glusterfs" || sub == "rclone" || sub == "davfs"):
		return Network
	}
	var st unix.Stat_t
	if unix.Stat(source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Fixed
	}
	number := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	if removable(filepath.Join(sys, number), 0) {
		return Removable
	}
	return Fixed
}

// removable looks at a block device, the disk that it is a partition of, and what it is stacked on (encryption, RAID): all
// of that must be removable.
func removable(device string, depth int) bool {
	path, err := filepath.EvalSymlinks(device)
	if err != nil || depth > 8 {
		return false
	}
	if strings.Contains(path, "/usb") {
		return true
	}
	for _, dir := range []string{path, filepath.Dir(path)} {
		if b, err := os.ReadFile(filepath.Join(dir, "removable")); err == nil && strings.TrimSpace(string(b)) == "1" {
			return true
		}
	}
	slaves, err := os.ReadDir(filepath.Join(path, "slaves"))
	if err != nil || len(slaves) == 0 {
		return false
	}
	for _, s := range slaves {
		if !removable(filepath.Join(path, "slaves", s.Name()), depth+1) {
			return false
		}
	}
	return true
}
