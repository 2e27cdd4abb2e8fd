package readme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// onTerminal runs a bash script from the checkout with a terminal of its own, in a process namespace that ends with it,
// and returns what the terminal showed. Each prompt for a password is answered.
func onTerminal(ctx context.Context, t *testing.T, script, password string) (string, error) {
	t.Helper()
	master, slave := openPTY(t)
	defer master.Close()
	cmd := exec.CommandContext(ctx, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script)
	cmd.Dir = root
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown := make(chan string, 1)
	go func() { shown <- attend(master, password) }()
	err := cmd.Wait()
	// A daemon that the script started in the background is gone with its namespace, and so is the last writer.
	return <-shown, err
}

// attend reads the terminal to its end and types the password at each prompt.
func attend(master *os.File, password string) string {
	var seen bytes.Buffer
	answered := 0
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		seen.Write(buf[:n])
		for {
			i := bytes.Index(seen.Bytes()[answered:], []byte("Password of "))
			if i < 0 {
				break
			}
			end := bytes.Index(seen.Bytes()[answered+i:], []byte(": "))
			if end < 0 {
				break
			}
			answered += i + end
			if _, err := master.WriteString(password + "\n"); err != nil {
				return seen.String()
			}
		}
		if err != nil { // EIO: nobody has the other end open
			return seen.String()
		}
	}
}

// openPTY returns both ends of a new pseudo-terminal (pts(4)).
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
