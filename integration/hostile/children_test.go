package hostile

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// childHold PATH opens a file, reads it, and keeps it open until it is told to end.
func childHold(c *harness.Child) error {
	f, err := os.Open(c.Args[0])
	if err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if err := c.Say("%d", len(b)); err != nil {
		return err
	}
	if _, err = c.Hear(); errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// childReach PATH... tries everything that reads, lists or connects to each path, and says what worked.
func childReach(c *harness.Child) error {
	for _, path := range c.Args {
		for what, try := range map[string]func() error{
			"open": func() error { return closed(unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)) },
			"open for writing": func() error {
				return closed(unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_APPEND, 0))
			},
			"create": func() error { return closed(unix.Open(path+"/x", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)) },
			"list":   func() error { _, err := os.ReadDir(path); return err },
			"remove": func() error { return os.Remove(path) },
			"rename": func() error { return os.Rename(path, path+"x") },
			"link":   func() error { return os.Link(path, "/tmp/mailcryptfs-reached") },
			"chmod":  func() error { return os.Chmod(path, 0o777) },
			"attributes": func() error {
				_, err := unix.Getxattr(path, "user.test", make([]byte, 100))
				return err
			},
			"connect": func() error { return connect(path) },
		} {
			if err := try(); err == nil {
				if err := c.Say("%s %s", what, path); err != nil {
					return err
				}
			}
		}
	}
	return c.Say("done")
}

func closed(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func connect(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if len(path) > 100 {
		return fmt.Errorf("%s: too long", path)
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}
