package posix

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// stressors are those of stress-ng(1) that work on files below --temp-path, with the options that some of them take.
var stressors = map[string][]string{
	"access": nil, "aio": nil, "chdir": nil, "chmod": nil, "chown": nil, "dentry": {"--dentries", "200"},
	"dir": {"--dir-dirs", "200"}, "dirdeep": {"--dirdeep-bytes", "1M"}, "dirmany": {"--dirmany-bytes", "0"}, "dnotify": nil, "fallocate": {"--fallocate-bytes", "4M"},
	"fcntl": nil, "fiemap": {"--fiemap-bytes", "2M"}, "file-ioctl": nil, "filename": {"--filename-opts", "ext"}, "flock": nil, "getdent": nil,
	"hdd": {"--hdd-bytes", "4M"}, "inotify": nil, "io": nil, "iomix": {"--iomix-bytes", "4M"}, "lease": nil, "link": nil, "locka": nil, "lockf": nil,
	"lockofd": nil, "mknod": nil, "msync": {"--msync-bytes", "2M"}, "open": nil, "readahead": {"--readahead-bytes", "4M"}, "rename": nil, "revio": {"--revio-bytes", "4M"},
	"seek": {"--seek-size", "2M"}, "sendfile": {"--sendfile-size", "1M"}, "symlink": nil, "sync-file": {"--sync-file-bytes", "2M"}, "touch": nil, "utime": nil, "xattr": nil,
}

// expectedFailures are stressors that fail on the view for a reason.
var expectedFailures = map[string]string{}

// stress runs one stressor and tells what it has against the directory; "" for nothing.
func stress(t *testing.T, dir, name string) string {
	t.Helper()
	work := mkdir(t, dir, "stress-"+name)
	args := append([]string{"--" + name, "2", "--verify", "--temp-path", work, "--timeout", "20", "--" + name + "-ops", "100", "--oomable"}, stressors[name]...)
	cmd := exec.CommandContext(t.Context(), "stress-ng", args...)
	cmd.Dir = work
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &exit) && exit.ExitCode() == 4: // EXIT_NO_RESOURCE: the machine lacks something
		return "not here"
	}
	return fmt.Sprintf("%v: %s", err, out)
}

// TestStressNG runs the stressors of files, whose results they verify themselves, on ext4 and on the view: what works on ext4
// works on the view.
func TestStressNG(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	view := mkdir(t, s.View, "alice")
	plain := mkdir(t, s.StoreFS, "plain")
	for _, name := range slices.Sorted(maps.Keys(stressors)) {
		onView := stress(t, view, name)
		if onView == "" {
			if expectedFailures[name] != "" {
				t.Errorf("%s does not fail any more: take it off the list", name)
			}
			continue
		}
		if onPlain := stress(t, plain, name); onPlain != "" {
			t.Logf("%s fails on ext4, too: %.300s", name, onPlain)
			continue
		}
		if why := expectedFailures[name]; why != "" {
			t.Logf("%s fails, as expected: %s", name, why)
			continue
		}
		t.Errorf("%s fails on the view and not on ext4: %s", name, onView)
	}
}

// fioJobs are jobs of fio(1), which reads back what it wrote and compares checksums.
const fioJobs = `
[global]
directory=%s
size=6m
verify=crc32c
verify_fatal=1
do_verify=1
randrepeat=0
group_reporting
[random]
rw=randwrite
bsrange=512-64k
[mapped]
rw=randrw
bs=4k
ioengine=mmap
[many]
rw=randwrite
bs=1k
nrfiles=40
openfiles=10
[appended]
rw=write
bsrange=700-9k
bs_unaligned=1
fdatasync=20
[vectors]
rw=randrw
bs=3k
ioengine=pvsync
[async]
rw=randwrite
bs=16k
ioengine=libaio
iodepth=8
[kept]
rw=randwrite
bs=8k
filename=kept
unlink=0
`

// TestFIO writes and verifies in all of fio's ways, for an index and for a message, and verifies once more after a restart.
func TestFIO(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	mkdir(t, s.View, "alice")
	for _, folder := range []string{"index", "cur"} {
		dir := mkdir(t, s.View, "alice", folder)
		jobs := filepath.Join(harness.Dir(t), "jobs")
		must(t, os.WriteFile(jobs, fmt.Appendf(nil, fioJobs, dir), 0o600))
		fio := func(args ...string) {
			t.Helper()
			began := time.Now()
			cmd := exec.CommandContext(t.Context(), "fio", append(args, jobs)...)
			cmd.Dir = filepath.Dir(jobs) // fio leaves its state there
			if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("verify:")) {
				t.Errorf("fio %q in %s: %v: %s", args, folder, err, out)
			}
			t.Logf("fio %q in %s: %v", args, folder, time.Since(began).Round(time.Millisecond))
		}
		fio()
		s.Stop(t)
		s.Serve(t)
		fio("--verify_only", "--section=kept")
	}
	if r := s.Call(t, nil, "verify"); r.Code != 0 {
		t.Errorf("verify: %s", strings.TrimSpace(r.Out+r.Err))
	}
}

// TestManyNames: a file that had many names can be used by the first one when the others are gone.
func TestManyNames(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	dir := mkdir(t, mkdir(t, s.View, "alice"), "cur")
	first := filepath.Join(dir, "first")
	must(t, os.WriteFile(first, []byte("content"), 0o600))
	for range 2 {
		for i := range 300 {
			must(t, os.Link(first, fmt.Sprint(first, i)))
		}
		for i := range 300 {
			must(t, os.Remove(fmt.Sprint(first, i)))
		}
	}
	b, err := os.ReadFile(first)
	if err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	must(t, os.Chmod(first, 0o640))
	must(t, os.Rename(first, first+":2,S"))
}
