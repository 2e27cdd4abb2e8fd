package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// said is a question on the terminal, up to its colon, and what is typed then.
type said struct{ question, answer string }

// dialog runs a verb on a terminal of its own, and answers its questions in their order. It returns what the terminal showed
// and the exit code.
func dialog(t *testing.T, s *harness.Site, talk []said, args ...string) (string, int) {
	t.Helper()
	master, slave := openPTY(t)
	defer master.Close()
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), append(args, "--config", s.Config)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, cmd.Start())
	must(t, slave.Close())
	must(t, master.SetReadDeadline(time.Now().Add(60*time.Second)))
	var seen bytes.Buffer
	buf := make([]byte, 4096)
	for from := 0; ; {
		n, err := master.Read(buf)
		seen.Write(buf[:n])
		for len(talk) > 0 {
			i := bytes.Index(seen.Bytes()[from:], []byte(talk[0].question+": "))
			if i < 0 {
				break
			}
			from += i + len(talk[0].question) + 2
			_, err := master.WriteString(talk[0].answer + "\n")
			must(t, err)
			talk = talk[1:]
		}
		if errors.Is(err, unix.EIO) { // nobody has the other end open
			break
		}
		must(t, err)
	}
	if len(talk) > 0 {
		t.Errorf("%q did not ask %q: %s", args, talk[0].question, seen.String())
	}
	_ = cmd.Wait() // the code says it
	return seen.String(), cmd.ProcessState.ExitCode()
}

// openPTY returns both ends of a new pseudo-terminal (pts(4)).
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	must(t, err)
	master = os.NewFile(uintptr(fd), "/dev/ptmx") // not blocking: it takes deadlines
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)))
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	return master, slave
}

// TestOnATerminal types everything, as people do; no secret shows.
func TestOnATerminal(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	sheet, key := code(t, s, alice), recoveryKey(t, s)
	unlocks(t, s, alice, password(alice))
	quiet := func(want int, says string, talk []said, args ...string) {
		t.Helper()
		out, code := dialog(t, s, talk, args...)
		if code != want || !strings.Contains(out, says) {
			t.Errorf("%q: exit %d, want %d; %q in %q", args, code, want, says, out)
		}
		for _, line := range talk {
			if strings.Contains(line.question, "assword") || strings.Contains(line.question, "code") {
				if strings.Contains(out, line.answer) {
					t.Errorf("%q showed %q: %s", args, line.answer, out)
				}
			}
		}
	}
	quiet(usage, "differ", []said{{"Old password of alice", password(alice)}, {"New password of alice", "one thing"}, {"New password of alice again", "another thing"}}, "passwd", alice)
	quiet(0, "was changed", []said{{"Recovery code of alice", strings.ToLower(sheet)}, {"New password of alice", "fresh thing"}, {"New password of alice again", "fresh thing"}}, "passwd", alice, "--recovery-code")
	quiet(0, "has the slot", []said{{"A password that opens the mail of alice", "fresh thing"}, {"New further password of alice", "for the phone"}, {"New further password of alice again", "for the phone"}}, "slot", "add", alice)

	dir := harness.Dir(t)
	request, answer, state := filepath.Join(dir, "r"), filepath.Join(dir, "a"), "--state="+filepath.Join(dir, "state")
	good(t, s, nil, "recover", alice, "--request", request, state)
	ask := "Type yes to let the asker read all mail of this user"
	quiet(noPerm, "not approved", []said{{ask, "no"}}, "recover", "--approve", request, "--recovery-key", key, "--answer", answer)
	quiet(0, "wrote the answer", []said{{ask, "yes"}}, "recover", "--approve", request, "--recovery-key", key, "--answer", answer)
	quiet(0, "opens with the new password", []said{{"New password of alice", "by answer"}, {"New password of alice again", "by answer"}}, "recover", alice, "--apply", answer, state)
	unlocks(t, s, alice, "by answer")

	name := "Type the name of the user to go on"
	quiet(usage, "nothing was destroyed", []said{{name, "yes"}}, "forget", alice)
	unlocks(t, s, alice, "by answer")
	s.Announce("user forgotten")
	quiet(0, "Record of destruction", []said{{name, alice}}, "forget", alice)
	bad(t, s, noUser, "not enrolled", secrets{"password": "by answer"}, "unlock", alice)
}
