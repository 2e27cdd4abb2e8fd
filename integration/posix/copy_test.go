package posix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// testCopies: the calls by which the kernel moves data itself give the same bytes as read and write.
func testCopies(t *testing.T, p *place) {
	want := noise(40, 150001)
	write(t, p.path("from"), want)
	from := open(t, p.path("from"), os.O_RDONLY)
	src := int(from.Fd())
	for name, move := range map[string]func(dst, n int) (int, error){
		"copy_file_range": func(dst, n int) (int, error) { return unix.CopyFileRange(src, nil, dst, nil, n, 0) },
		"sendfile":        func(dst, n int) (int, error) { return unix.Sendfile(dst, src, nil, n) },
	} {
		to := open(t, p.path("to-%s", name), os.O_CREATE|os.O_RDWR)
		_, err := unix.Seek(src, 0, 0)
		must(t, err)
		for left := len(want); left > 0; {
			n, err := move(int(to.Fd()), left)
			if err != nil || n == 0 {
				t.Fatalf("%s with %d bytes left: %d, %v", name, left, n, err)
			}
			left -= n
		}
		expect(t, to.Name(), want)
	}
	// Into the middle of a file, from the middle of the same file.
	same := open(t, p.path("to-sendfile"), os.O_RDWR)
	in, out := int64(1000), int64(90001)
	n, err := unix.CopyFileRange(int(same.Fd()), &in, int(same.Fd()), &out, 50000, 0)
	must(t, err)
	copy(want[90001:], bytes.Clone(want[1000:1000+n]))
	expect(t, same.Name(), want)
	// Through a pipe.
	r, w, err := os.Pipe()
	must(t, err)
	defer func() { _, _ = r.Close(), w.Close() }()
	off := int64(4000)
	k, err := unix.Splice(int(same.Fd()), &off, int(w.Fd()), nil, 5000, 0)
	must(t, err)
	b := make([]byte, k)
	if _, err := r.Read(b); err != nil || !bytes.Equal(b, want[4000:4000+k]) {
		t.Errorf("splice: %v", err)
	}
	// Vectors.
	v := open(t, p.path("vector"), os.O_CREATE|os.O_RDWR)
	_, err = unix.Pwritev(int(v.Fd()), [][]byte{want[:5000], want[5000:5001], want[5001:9000]}, 0)
	must(t, err)
	expect(t, v.Name(), want[:9000])
	bufs := [][]byte{make([]byte, 4011), make([]byte, 10000)}
	m, err := unix.Preadv(int(v.Fd()), bufs, 1)
	if err != nil || m != 8999 || !bytes.Equal(append(bufs[0], bufs[1][:8999-4011]...), want[1:9000]) {
		t.Errorf("preadv: %d, %v", m, err)
	}
	must(t, unix.Fadvise(int(v.Fd()), 0, 0, unix.FADV_DONTNEED))
	expect(t, v.Name(), want[:9000])
}

// testACL: a POSIX ACL is enforced, or refused; it is never stored and ignored.
func testACL(t *testing.T, p *place) {
	const reader = 6101
	path := p.path("f")
	write(t, path, []byte("x"))
	must(t, os.Chmod(path, 0o600))
	// Version 2; user::rw-, user:6101:r--, group::---, mask::r--, other::---
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, 1<<32 - 1}, {2, 4, reader}, {4, 0, 1<<32 - 1}, {16, 4, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	w := worker(t, harness.IDs{UID: reader, GID: reader})
	ask(t, w, "read "+path, "EACCES")
	switch err := unix.Setxattr(path, "system.posix_acl_access", acl, 0); {
	case err == nil:
		ask(t, w, "read "+path, "ok")
		ask(t, w, "write "+path, "EACCES")
	case !errors.Is(err, unix.EOPNOTSUPP):
		t.Errorf("setting an ACL: %v, want success or EOPNOTSUPP", err)
	}
}
