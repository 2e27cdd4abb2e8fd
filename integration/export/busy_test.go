package export

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// busyMessages are there all the time. Others come and go.
const busyMessages = 200

// TestBusyMailbox exports a user while flags change, messages come and are expunged, and folders come, move and go: nothing
// that was there all the time is missed, and nothing that went is an error.
func TestBusyMailbox(t *testing.T) {
	for profile, life := range map[string][]func(root string, round int) error{
		"maildir":       {flagsChange, messagesComeAndGo, folderComesAndGoes},
		"dovecot-sdbox": {boxMessagesComeAndGo, boxComesAndGoes},
	} {
		t.Run(profile, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Profile: profile})
			s.Enroll(t, "alice")
			s.Unlock(t, "alice")
			root := filepath.Join(s.View, "alice")
			for i := range busyMessages {
				if profile == "maildir" {
					must(t, deliver(root, fmt.Sprintf("%d.M1.mail", i), fmt.Sprintf("there-%d", i)))
				} else {
					must(t, deliverBox(filepath.Join(root, "mailboxes/INBOX"), i+1, fmt.Sprintf("there-%d", i)))
				}
			}
			stop := busy(t, root, life)
			out := harness.Dir(t)
			for name, args := range map[string][]string{"maildir": {out + "/d"}, "mbox": {out + "/m", "--mbox"}, "mbox tar": {"--tar", out + "/t.tar", "--mbox"}} {
				expect(t, s.Call(t, nil, "export", append([]string{"alice"}, args...)...), 0, "exported alice", "")
				all := ""
				if name == "mbox tar" {
					f, err := os.Open(out + "/t.tar")
					must(t, err)
					for _, f := range readTar(t, f, "alice") {
						all += f.content
					}
					must(t, f.Close())
				} else {
					for _, f := range readDir(t, args[0]) {
						all += f.content
					}
				}
				for i := range busyMessages {
					if marker := fmt.Sprintf("Subject: there-%d\n", i); !strings.Contains(all, marker) {
						t.Errorf("%s: message %d is missing", name, i)
					}
				}
			}
			stop()
		})
	}
}

// busy calls each function again and again, each in a goroutine of its own, until the function that it returns is called.
func busy(t testing.TB, root string, life []func(string, int) error) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, f := range life {
		all.Go(func() {
			for round := 0; ; round++ {
				select {
				case <-done:
					return
				default:
				}
				if err := f(root, round); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(done); all.Wait() })
	t.Cleanup(stop)
	return stop
}

// deliver puts a message into a maildir.
func deliver(root, name, marker string) error {
	temp := filepath.Join(root, "tmp", name)
	var errs []error
	for _, sub := range []string{"cur", "new", "tmp"} {
		errs = append(errs, os.MkdirAll(filepath.Join(root, sub), 0o700))
	}
	return errors.Join(append(errs, os.WriteFile(temp, []byte(message(marker, 200)), 0o600), os.Rename(temp, filepath.Join(root, "new", name)))...)
}

// deliverBox puts a message into a mailbox of sdbox.
func deliverBox(box string, uid int, marker string) error {
	mails := filepath.Join(box, "dbox-Mails")
	temp := filepath.Join(mails, fmt.Sprintf("temp.%d", uid))
	content := dbox(message(marker, 200), time.Unix(1700000000, 0), "")
	return errors.Join(os.MkdirAll(mails, 0o700), os.WriteFile(temp, []byte(content), 0o600), os.Rename(temp, filepath.Join(mails, fmt.Sprintf("u.%d", uid))))
}

// flagsChange moves a message from new to cur, or changes its flags.
func flagsChange(root string, round int) error {
	i, flags := round%busyMessages, []string{"S", "FS"}
	to := fmt.Sprintf("%s/cur/%d.M1.mail:2,%s", root, i, flags[round/busyMessages%2])
	from := fmt.Sprintf("%s/cur/%d.M1.mail:2,%s", root, i, flags[(round/busyMessages+1)%2])
	if round < busyMessages {
		from = fmt.Sprintf("%s/new/%d.M1.mail", root, i)
	}
	return os.Rename(from, to)
}

const passing = 20 // messages at a time

func messagesComeAndGo(root string, _ int) error {
	var errs []error
	for i := range passing {
		errs = append(errs, deliver(root, fmt.Sprintf("%d.M2.mail", i), "passing"))
	}
	for i := range passing {
		errs = append(errs, os.Remove(fmt.Sprintf("%s/new/%d.M2.mail", root, i)))
	}
	return errors.Join(errs...)
}

func boxMessagesComeAndGo(root string, _ int) error {
	box, first := filepath.Join(root, "mailboxes/INBOX"), busyMessages+1
	var errs []error
	for i := range passing {
		errs = append(errs, deliverBox(box, first+i, "passing"))
	}
	for i := range passing {
		errs = append(errs, os.Remove(fmt.Sprintf("%s/dbox-Mails/u.%d", box, first+i)))
	}
	return errors.Join(errs...)
}

// quiet is how long there is no folder that passes: only then does a slow export get past them, as each has a new name.
const quiet = 20 * time.Millisecond

func folderComesAndGoes(root string, round int) error {
	defer time.Sleep(quiet)
	folder := filepath.Join(root, fmt.Sprintf(".Folder-%d", round))
	return errors.Join(deliver(folder, "1.M3.mail", "passing"), os.Rename(folder, folder+"-moved"), os.RemoveAll(folder+"-moved"))
}

func boxComesAndGoes(root string, round int) error {
	defer time.Sleep(quiet)
	box := filepath.Join(root, fmt.Sprintf("mailboxes/Box-%d", round))
	return errors.Join(deliverBox(box, 1, "passing"), os.Rename(box, box+"-moved"), os.RemoveAll(box+"-moved"))
}
