package posix

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"golang.org/x/sys/unix"
)

// childAs obeys one operation per line, with the ids that it was given, and answers "ok" or the error: "umask OCTAL",
// "create PATH OCTAL", "mkdir PATH OCTAL", "read PATH", "write PATH", "remove PATH", "rename OLD NEW", "link OLD NEW",
// "chmod PATH OCTAL", "chown PATH UID GID", "list PATH", "touch PATH".
func childAs(c *harness.Child) error {
	if err := c.Say("ready"); err != nil {
		return err
	}
	return c.Obey(func(line string) (string, error) {
		err := operate(strings.Fields(line))
		if err == nil {
			return "ok", nil
		}
		var number unix.Errno
		if !errors.As(err, &number) {
			return "", err
		}
		return unix.ErrnoName(number), nil
	})
}

func operate(w []string) error {
	octal := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil {
			panic(err)
		}
		return uint32(n)
	}
	switch w[0] {
	case "umask":
		unix.Umask(int(octal(w[1])))
		return nil
	case "create":
		fd, err := unix.Open(w[1], unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, octal(w[2]))
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, []byte("mine"))
		return errors.Join(err, unix.Close(fd))
	case "mkdir":
		return unix.Mkdir(w[1], octal(w[2]))
	case "read":
		_, err := os.ReadFile(w[1])
		return err
	case "write":
		fd, err := unix.Open(w[1], unix.O_WRONLY|unix.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, []byte("more"))
		return errors.Join(err, unix.Close(fd))
	case "remove":
		return unix.Unlink(w[1])
	case "rename":
		return unix.Rename(w[1], w[2])
	case "link":
		return unix.Link(w[1], w[2])
	case "chmod":
		return unix.Chmod(w[1], octal(w[2]))
	case "chown":
		uid, _ := strconv.Atoi(w[2])
		gid, _ := strconv.Atoi(w[3])
		return unix.Chown(w[1], uid, gid)
	case "list":
		_, err := os.ReadDir(w[1])
		return err
	case "touch":
		return unix.Utimes(w[1], nil)
	}
	return fmt.Errorf("no such operation: %q", w)
}

func worker(t *testing.T, ids harness.IDs) *harness.Proc {
	t.Helper()
	p := harness.SpawnAs(t, ids, "as")
	p.Expect(t, "ready")
	return p
}

func owner(t *testing.T, path string, uid, gid, mode uint32) {
	t.Helper()
	if st := stat(t, path); st.Uid != uid || st.Gid != gid || st.Mode&0o7777 != mode {
		t.Errorf("%s: %d:%d %o, want %d:%d %o", path, st.Uid, st.Gid, st.Mode&0o7777, uid, gid, mode)
	}
}

// testUmask: the umask of the caller counts, and only that.
func testUmask(t *testing.T, p *place) {
	w := worker(t, harness.IDs{})
	for _, c := range []struct{ umask, mode, want uint32 }{{0o022, 0o666, 0o644}, {0, 0o666, 0o666}, {0o077, 0o777, 0o700}, {0o007, 0o640, 0o640}} {
		ask(t, w, fmt.Sprintf("umask %o", c.umask), "ok")
		f, d := p.path("f%o", c.umask), p.path("d%o", c.umask)
		ask(t, w, fmt.Sprintf("create %s %o", f, c.mode), "ok")
		ask(t, w, fmt.Sprintf("mkdir %s %o", d, c.mode), "ok")
		owner(t, f, 0, 0, c.want)
		owner(t, d, 0, 0, c.want)
	}
}

// testPermissionsOneUID: virtual users, one uid for all mail.
func testPermissionsOneUID(t *testing.T, p *place) {
	const vmail, other = 5000, 5001
	dir := mkdir(t, p.dir, "box")
	must(t, os.Chown(dir, vmail, vmail))
	must(t, os.Chmod(dir, 0o700))
	mail, stranger := worker(t, harness.IDs{UID: vmail, GID: vmail}), worker(t, harness.IDs{UID: other, GID: other})
	f := dir + "/msg"
	ask(t, mail, "create "+f+" 600", "ok")
	owner(t, f, vmail, vmail, 0o600)
	ask(t, mail, "write "+f, "ok")
	ask(t, mail, "read "+f, "ok")
	ask(t, mail, "mkdir "+dir+"/sub 700", "ok")
	owner(t, dir+"/sub", vmail, vmail, 0o700)
	for _, op := range []string{"read " + f, "write " + f, "remove " + f, "list " + dir, "create " + dir + "/x 600", "rename " + f + " " + dir + "/y"} {
		ask(t, stranger, op, "EACCES")
	}
	must(t, os.Chmod(dir, 0o755))
	ask(t, stranger, "list "+dir, "ok")
	for _, op := range []string{"read " + f, "write " + f, "remove " + f} {
		ask(t, stranger, op, "EACCES")
	}
	ask(t, stranger, "chmod "+f+" 666", "EPERM")
	ask(t, stranger, "chown "+f+" 5001 5001", "EPERM")
	ask(t, stranger, "touch "+f, "EACCES")
	ask(t, mail, "chown "+f+" 5001 5001", "EPERM")
	ask(t, mail, "chmod "+f+" 644", "ok")
	ask(t, stranger, "read "+f, "ok")
	ask(t, stranger, "write "+f, "EACCES")
	ask(t, mail, "rename "+f+" "+dir+"/sub/msg", "ok")
	ask(t, stranger, "read "+dir+"/sub/msg", "EACCES")
	// root delivers and gives away, as delivery agents do
	write(t, f, []byte("x"))
	must(t, os.Chown(f, vmail, vmail))
	ask(t, mail, "write "+f, "ok")
	ask(t, mail, "remove "+f, "ok")
}

// testPermissionsUIDs: one uid per user, a shared group, directories with the set-group-id bit, the sticky bit.
func testPermissionsUIDs(t *testing.T, p *place) {
	const a, b, group = 6001, 6002, 7000
	shared := mkdir(t, p.dir, "shared")
	must(t, os.Chown(shared, 0, group))
	must(t, unix.Chmod(shared, 0o2775))
	wa := worker(t, harness.IDs{UID: a, GID: a, Groups: []int{group}})
	wb := worker(t, harness.IDs{UID: b, GID: b, Groups: []int{group}})
	wc := worker(t, harness.IDs{UID: 6003, GID: 6003})
	for _, w := range []*harness.Proc{wa, wb, wc} {
		ask(t, w, "umask 002", "ok")
	}
	f := shared + "/f"
	ask(t, wa, "create "+f+" 660", "ok")
	owner(t, f, a, group, 0o660) // the directory's group
	ask(t, wa, "mkdir "+shared+"/sub 775", "ok")
	owner(t, shared+"/sub", a, group, 0o2775) // which goes on
	ask(t, wb, "write "+f, "ok")
	ask(t, wb, "create "+shared+"/sub/g 640", "ok")
	owner(t, shared+"/sub/g", b, group, 0o640)
	ask(t, wa, "read "+shared+"/sub/g", "ok")
	ask(t, wa, "write "+shared+"/sub/g", "EACCES")
	ask(t, wa, "rename "+shared+"/sub/g "+shared+"/g", "ok")
	ask(t, wc, "read "+f, "EACCES")
	ask(t, wc, "create "+shared+"/x 600", "EACCES")
	ask(t, wb, "chmod "+f+" 600", "EPERM")
	must(t, unix.Chmod(shared, 0o3777))
	ask(t, wb, "remove "+f, "EPERM") // sticky
	ask(t, wb, "rename "+f+" "+shared+"/h", "EPERM")
	ask(t, wc, "create "+shared+"/x 600", "ok")
	owner(t, shared+"/x", 6003, group, 0o600)
	ask(t, wa, "remove "+f, "ok")
	// Writing by another than root takes the set-user-id bit away.
	ask(t, wa, "create "+f+" 777", "ok")
	must(t, unix.Chmod(f, 0o6777))
	ask(t, wb, "write "+f, "ok")
	owner(t, f, a, group, 0o777)
	// A file owned by another, 0600, is not even opened by handle paths.
	ask(t, wa, "chmod "+f+" 600", "ok")
	ask(t, wb, "read "+f, "EACCES")
	ask(t, wb, "link "+f+" "+shared+"/stolen", linkOfOthers(t))
}

// linkOfOthers is what link(2) of a file that one may not write answers here (fs.protected_hardlinks of proc(5)).
func linkOfOthers(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	must(t, err)
	if strings.TrimSpace(string(b)) == "1" {
		return "EPERM"
	}
	return "ok"
}
