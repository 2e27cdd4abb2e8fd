package node

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxRequest is the size in bytes of the largest read or write request.
const maxRequest = 1 << 20

// background is how many requests without a waiting caller (read-ahead, forgets) the
// kernel keeps under way.
const background = 64

// Mount mounts the view at dir, without fusermount and for all users, and serves
// it in the background. source is the name shown by mount(8). Without xattrs the
// kernel stops asking for extended attributes, which it else does before many
// writes. It returns when the mount answers.
func (fs *FS) Mount(dir, source string, xattrs bool) error {
	s, err := fuse.NewServer(fs, dir, &fuse.MountOptions{
		AllowOther:               true,
		Options:                  []string{"default_permissions"},
		FsName:                   source,
		Name:                     "mailcryptfs",
		MaxWrite:                 maxRequest,
		MaxReadAhead:             maxRequest,
		MaxBackground:            background,
		DirectMountStrict:        true,
		DisableSplice:            true, // content is never in a file as it is sent
		DirectMountFlags:         unix.MS_NOSUID | unix.MS_NODEV,
		ExplicitDataCacheControl: !fs.shared,
		DisableXAttrs:            !xattrs,
		// Set-id bits are cleared here, so that a write needs no GETXATTR first;
		// attributes come with listings only when somebody asks for them.
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_READDIRPLUS_AUTO,
		PanicHandler:      fs.Panicked,
		Logger:            log.New(io.Discard, "", 0), // requests are not logged; failures are, by tree
	})
	if err != nil {
		return fmt.Errorf("cannot mount on %s: %w", dir, err)
	}
	go s.Serve()
	if err := closeOnExec(); err != nil {
		return errors.Join(err, s.Unmount())
	}
	if err := s.WaitMount(); err != nil {
		return fmt.Errorf("cannot mount on %s: %w", dir, err)
	}
	fs.readAhead(dir)
	return nil
}

// Wait returns when the kernel's connection has ended and no request is being served.
func (fs *FS) Wait() { fs.server.Wait() }

// readAhead lets the kernel read ahead by a whole request. A kernel that does not
// let it is only slower.
func (fs *FS) readAhead(dir string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return
	}
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d", maxRequest>>10), 0); err != nil {
		fs.log.Debug("cannot set read-ahead", "path", path, "error", err)
	}
}

// closeOnExec has no other program inherit the connection to the kernel, which go-fuse opens without O_CLOEXEC: it would keep
// the view of a dead daemon, and whoever waits for an answer.
func closeOnExec() error {
	const fds = "/proc/self/fd"
	all, err := os.ReadDir(fds)
	if err != nil {
		return fmt.Errorf("cannot look at open descriptors: %w", err)
	}
	for _, e := range all {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if path, err := os.Readlink(fds + "/" + e.Name()); err == nil && path == "/dev/fuse" {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
