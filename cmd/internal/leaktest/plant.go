package leaktest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Planted is what Plant left in the view: files, and directories in the order in which they were made.
type Planted struct {
	Files []string `json:"files"`
	Dirs  []string `json:"dirs"`
}

// Plant writes the message into the user's mail at root, a directory of the view, as a delivery agent of the profile
// does and with the owner of root: into the INBOX, and into a new folder that is named by the folder's marker. On an
// error, what was planted so far is returned too.
func Plant(root, profile string, markers []Marker, message []byte) (*Planted, error) {
	st, err := os.Stat(root)
	if err != nil {
		return &Planted{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return &Planted{}, fmt.Errorf("the owner of %s cannot be told", root)
	}
	p := &planter{owner: sys, message: message, planted: &Planted{}}
	var folder string
	for _, m := range markers {
		if m.Part == "folder" {
			folder = m.Core
		}
	}
	switch profile {
	case "dovecot-sdbox":
		err = p.dbox(root, folder)
	case "cyrus":
		err = p.cyrus(root, folder)
	default:
		err = p.maildirs(root, folder)
	}
	return p.planted, err
}

// Remove takes away everything that was planted. Directories in which others have put something stay.
func (p *Planted) Remove() error {
	var all error
	for _, f := range p.Files {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	for i := len(p.Dirs) - 1; i >= 0; i-- {
		if err := removeDir(p.Dirs[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// removeDir removes a directory that was made for the test, with what a mail server has made of it meanwhile: its own
// files of indexes, and messages that it has moved.
func removeDir(path string) error {
	err := os.Remove(path)
	if errors.Is(err, syscall.ENOTEMPTY) && strings.Contains(path, prefix) {
		return os.RemoveAll(path)
	}
	return err
}

type planter struct {
	owner   *syscall.Stat_t
	message []byte
	planted *Planted
}

// maildirs delivers into the maildir at root, or into its subdirectory Maildir.
func (p *planter) maildirs(root, folder string) error {
	if !exists(root+"/cur") && exists(root+"/Maildir") {
		root += "/Maildir"
	}
	for _, box := range []string{root, root + "/." + folder} {
		if err := p.mkdir(box, "/cur", "/new", "/tmp"); err != nil {
			return err
		}
		now := time.Now()
		name := fmt.Sprintf("%d.M%dP%d.leaktest", now.Unix(), now.Nanosecond()/1000, os.Getpid())
		if err := p.deliver(box+"/tmp/"+name, box+"/new/"+name); err != nil {
			return err
		}
	}
	return nil
}

// dbox writes a folder of its own: the server would take a file in one that it knows for damage.
func (p *planter) dbox(root, folder string) error {
	if !exists(root+"/mailboxes") && exists(root+"/sdbox") {
		root += "/sdbox"
	}
	mails := root + "/mailboxes/" + folder + "/dbox-Mails"
	if err := p.mkdir(root+"/mailboxes", "/"+folder, "/"+folder+"/dbox-Mails"); err != nil {
		return err
	}
	now := time.Now()
	temp := fmt.Sprintf("%s/.temp.%d.P%dQ1M%d.leaktest", mails, now.Unix(), os.Getpid(), now.Nanosecond()/1000)
	text := p.message
	p.message = fmt.Appendf(nil, "2 M1e C%x\n\x01\x02N          %016x\n%s\n\x01\x03\nR%x\nV%x\n\n", now.Unix(), len(text), text, now.Unix(), len(text))
	return p.deliver(temp, mails+"/u.1")
}

// cyrus writes a mailbox that is in no list of mailboxes.
func (p *planter) cyrus(root, folder string) error {
	box := root + "/" + folder
	if err := p.mkdir(box); err != nil {
		return err
	}
	return p.deliver(box+"/1.", box+"/1.")
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// mkdir makes the directory base and others below it, where they are not there yet.
func (p *planter) mkdir(base string, below ...string) error {
	for _, sub := range append([]string{""}, below...) {
		err := os.Mkdir(base+sub, 0o700)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		p.planted.Dirs = append(p.planted.Dirs, base+sub)
		if err := os.Chown(base+sub, int(p.owner.Uid), int(p.owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// deliver writes to a temporary name, makes it durable, and renames it.
func (p *planter) deliver(temp, final string) (err error) {
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	p.planted.Files = append(p.planted.Files, temp, final)
	_, err = f.Write(p.message)
	if err := errors.Join(err, f.Chown(int(p.owner.Uid), int(p.owner.Gid)), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, final); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(final))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
