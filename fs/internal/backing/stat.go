package backing

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stat is what the lower filesystem says of an entry. Sizes are stored sizes.
type Stat struct {
	Dev, Ino            uint64
	Btime               int64 // nanoseconds of birth, 0 where the filesystem has none
	Mode, Nlink         uint32
	UID, GID, Rdev      uint32
	Size, Blocks        int64
	Atime, Mtime, Ctime unix.StatxTimestamp

	taken time.Time // before the lower filesystem was asked
}

// Type returns the S_IFMT bits of the mode.
func (s *Stat) Type() uint32 { return s.Mode & unix.S_IFMT }

// Key tells two lower inodes apart, also when one got the other's number after a
// deletion.
type Key struct{ Dev, Ino uint64 }

// Key returns the device and inode number.
func (s *Stat) Key() Key { return Key{s.Dev, s.Ino} }

// Same reports whether s and t describe the same lower inode.
func (s *Stat) Same(t *Stat) bool {
	return s.Dev == t.Dev && s.Ino == t.Ino && s.Btime == t.Btime && s.Type() == t.Type()
}

// Settle is how old the last change of an entry must be for its change time to prove
// that there was none since: the clock of a filesystem ticks slowly, every 10 ms at
// worst.
const Settle = 50 * time.Millisecond

// Settled reports whether any change after s was taken shows in the change time.
func (s *Stat) Settled() bool {
	return s.taken.Sub(time.Unix(s.Ctime.Sec, int64(s.Ctime.Nsec))).Abs() > Settle
}

// Unchanged reports whether now, which was taken later, proves that the entry is as s
// describes it: the same lower inode, content and attributes. The time of access does
// not count.
func (s *Stat) Unchanged(now *Stat) bool {
	return s.Settled() && s.Same(now) && s.Size == now.Size && s.Nlink == now.Nlink && s.Mtime == now.Mtime && s.Ctime == now.Ctime
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// Stat describes the entry name itself.
func (d *Dir) Stat(name string) (Stat, error) {
	return statx(d.fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

// StatSelf describes the directory.
func (d *Dir) StatSelf() (Stat, error) { return statx(d.fd, "", unix.AT_EMPTY_PATH) }

// Stat describes the file.
func (f *File) Stat() (Stat, error) { return statx(f.fd, "", unix.AT_EMPTY_PATH) }

func statx(fd int, name string, flags int) (Stat, error) {
	var x unix.Statx_t
	taken := time.Now()
	err := again("statx", func() error { return unix.Statx(fd, name, flags, statMask, &x) })
	if err != nil {
		return Stat{}, err
	}
	return Stat{
		Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino,
		Btime: x.Btime.Sec*1e9 + int64(x.Btime.Nsec),
		Mode:  uint32(x.Mode), Nlink: x.Nlink, UID: x.Uid, GID: x.Gid,
		Rdev: uint32(unix.Mkdev(x.Rdev_major, x.Rdev_minor)),
		Size: int64(x.Size), Blocks: int64(x.Blocks),
		Atime: x.Atime, Mtime: x.Mtime, Ctime: x.Ctime,
		taken: taken,
	}, nil
}

// futimens sets the times of an open descriptor: utimensat(2) with a null path,
// which the library does not offer.
func futimens(fd int, t *Times) error {
	_, _, e := syscall.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&t[0])), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
