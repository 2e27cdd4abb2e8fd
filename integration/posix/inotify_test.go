package posix

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testInotify: changes made through the mount are told, as IMAP IDLE needs them.
func testInotify(t *testing.T, p *place) {
	dir := mkdir(t, p.dir, "new")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	in := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = in.Close() }()
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE|unix.IN_CLOSE_WRITE|unix.IN_MODIFY)
	must(t, err)
	must(t, in.SetReadDeadline(time.Now().Add(10*time.Second)))
	write(t, p.path("tmp"), []byte("x"))
	for _, c := range []struct {
		do   func() error
		mask []uint32
	}{
		{func() error { return os.Rename(p.path("tmp"), dir+"/msg") }, []uint32{unix.IN_MOVED_TO}},
		{func() error { return os.WriteFile(dir+"/f", []byte("x"), 0o644) }, []uint32{unix.IN_CREATE, unix.IN_MODIFY, unix.IN_CLOSE_WRITE}},
		{func() error { return os.Rename(dir+"/msg", p.path("cur")) }, []uint32{unix.IN_MOVED_FROM}},
		{func() error { return os.Remove(dir + "/f") }, []uint32{unix.IN_DELETE}},
		{func() error { return os.Link(p.path("cur"), dir+"/linked") }, []uint32{unix.IN_CREATE}},
	} {
		must(t, c.do())
		for _, want := range c.mask {
			buf := make([]byte, unix.SizeofInotifyEvent+256)
			// One event at a time fits: names here are short, and the kernel gives whole events only.
			n, err := in.Read(buf[:unix.SizeofInotifyEvent+16])
			if err != nil {
				t.Fatalf("no event %x: %v", want, err)
			}
			if got := uint32(buf[4]) | uint32(buf[5])<<8; n < unix.SizeofInotifyEvent || got&want == 0 {
				t.Errorf("event %x, want %x", got, want)
			}
		}
	}
}
