package trap

import "golang.org/x/sys/unix"

// kind is how a system call names what it works on.
type kind uint8

const (
	byFD  kind = iota // the first argument is a descriptor of the file
	byDir             // the first two are a directory's descriptor and a path
)

type syscallInfo struct {
	nr   uintptr
	name string
	kind kind
}

// table has every call that can be trapped.
var table = []syscallInfo{
	{unix.SYS_READ, "read", byFD},
	{unix.SYS_WRITE, "write", byFD},
	{unix.SYS_PREAD64, "pread", byFD},
	{unix.SYS_PWRITE64, "pwrite", byFD},
	{unix.SYS_FTRUNCATE, "ftruncate", byFD},
	{unix.SYS_FALLOCATE, "fallocate", byFD},
	{unix.SYS_FSYNC, "fsync", byFD},
	{unix.SYS_FDATASYNC, "fdatasync", byFD},
	{unix.SYS_SYNCFS, "syncfs", byFD},
	{unix.SYS_FSTAT, "fstat", byFD},
	{unix.SYS_FSTATFS, "fstatfs", byFD},
	{unix.SYS_FCHOWN, "fchown", byFD},
	{unix.SYS_FCHMOD, "fchmod", byFD},
	{unix.SYS_GETDENTS64, "getdents", byFD},
	{unix.SYS_FCNTL, "fcntl", byFD},
	{unix.SYS_FLOCK, "flock", byFD},
	{unix.SYS_FSETXATTR, "fsetxattr", byFD},
	{unix.SYS_FGETXATTR, "fgetxattr", byFD},
	{unix.SYS_FLISTXATTR, "flistxattr", byFD},
	{unix.SYS_FREMOVEXATTR, "fremovexattr", byFD},
	{unix.SYS_OPENAT, "openat", byDir},
	{unix.SYS_MKDIRAT, "mkdirat", byDir},
	{unix.SYS_MKNODAT, "mknodat", byDir},
	{unix.SYS_LINKAT, "linkat", byDir},
	{unix.SYS_UNLINKAT, "unlinkat", byDir},
	{unix.SYS_READLINKAT, "readlinkat", byDir},
	{unix.SYS_RENAMEAT, "renameat", byDir},
	{unix.SYS_RENAMEAT2, "renameat2", byDir},
	{unix.SYS_FCHOWNAT, "fchownat", byDir},
	{unix.SYS_FCHMODAT, "fchmodat", byDir},
	{unix.SYS_FCHMODAT2, "fchmodat2", byDir},
	{unix.SYS_UTIMENSAT, "utimensat", byDir},
	{unix.SYS_STATX, "statx", byDir},
	{sysFstatat, "fstatat", byDir},
	{unix.SYS_SYMLINKAT, "symlinkat", byDir}, // its second argument is a directory: see Call.resolve
}

func infoOf(nr uintptr) (syscallInfo, bool) {
	for _, i := range table {
		if i.nr == nr {
			return i, true
		}
	}
	return syscallInfo{}, false
}
