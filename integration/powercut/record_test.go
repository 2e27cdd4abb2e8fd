package powercut

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/integration/trap"
	"github.com/mailcryptfs/mailcryptfs/integration/writers"
)

// recording is what happened on a disk while the writers were busy.
type recording struct {
	l      lower
	s      *harness.Site // its daemon does not run, and nothing is mounted on StoreFS
	work   *writers.Work
	base   []byte // the disk at the beginning; all of it is durable
	events []event
}

// record has a site work on a disk for some time. judge decides meanwhile about the calls that make things durable; nil
// lets them be.
func record(t *testing.T, l lower, long time.Duration, judge trap.Judge) *recording {
	t.Helper()
	d := newDisk(t, l.size)
	defer d.end(t)
	harness.Run(t, append(l.mkfs, d.device)...)
	var o harness.Options
	var tr *trap.Trap
	if judge != nil {
		tr = trap.New(t, trap.Syncs...)
		o.Under = tr.Under()
	}
	r := &recording{l: l, s: harness.New(t, o)}
	end := r.moveStore(t, d.device)
	defer end()
	r.s.Serve(t)
	writers.Prepare(t, r.s)
	accounts := harness.Dir(t)
	var err error
	r.base, err = os.ReadFile(d.record(t, accounts+"/clock"))
	must(t, err)
	if tr != nil { // what came before was honest, and so is what comes after
		tr.SetJudge(judge)
		defer tr.SetJudge(nil)
	}
	r.work = writers.Begin(t, r.s, accounts, 0, nil)
	<-time.After(long) // how long they work is the size of the test
	writers.Kill(t, r.s)
	r.events = d.stop(t)
	r.work.End(t)
	return r
}

// moveStore puts the store of a new site on the device, and mounts that where the store was until end is called.
func (r *recording) moveStore(t *testing.T, device string) (end func()) {
	t.Helper()
	fresh := harness.Dir(t)
	r.l.mountOn(t, device, fresh)
	harness.Run(t, "cp", "-a", r.s.Store, fresh+"/")
	fd, err := unix.Open(fresh, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	must(t, unix.Syncfs(fd))
	must(t, unix.Close(fd))
	unmount(t, fresh)
	r.l.mountOn(t, device, r.s.StoreFS)
	return func() {
		if r.s.Running() { // something went wrong
			r.s.Kill(t)
		}
		for unix.Unmount(r.s.View, unix.MNT_DETACH) == nil {
			continue
		}
		unmount(t, r.s.StoreFS)
	}
}

// reboot empties the keyring directory, which lies in memory.
func (r *recording) reboot(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(r.s.Keyring)
	must(t, err)
	for _, e := range entries {
		must(t, os.RemoveAll(filepath.Join(r.s.Keyring, e.Name())))
	}
}

// mend mounts a disk once, so that the filesystem replays its log, and has its own tool look at it.
func (r *recording) mend(t *testing.T, device string) (problem string) {
	t.Helper()
	r.l.mountOn(t, device, r.s.StoreFS)
	unmount(t, r.s.StoreFS)
	argv := append(r.l.fsck, device)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return strings.Join(argv, " ") + ": " + err.Error() + ": " + string(out)
	}
	return ""
}
