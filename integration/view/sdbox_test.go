package view

import (
	"errors"
	"os"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestSdbox: a message of Dovecot's sdbox is written under a temporary name and never converted because of its rename.
func TestSdbox(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-sdbox"})
	s.Enroll(t, "alice")
	inbox, sent := s.View+"/alice/sdbox/mailboxes/INBOX/dbox-Mails", s.View+"/alice/sdbox/mailboxes/Sent/dbox-Mails"
	text := message("sdbox", 9000)
	for _, dir := range []string{inbox, sent} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	for name, content := range map[string]string{"dovecot.index": "index", "dovecot.index.log": "log", "dovecot.index.cache": "header text"} {
		must(t, os.WriteFile(inbox+"/"+name, []byte(content), 0o600))
	}
	save := func(dir, name string) {
		t.Helper()
		temp := dir + "/.temp.1795331117.P5231Q0M899888.host.example.org"
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		must(t, err)
		_, err = f.Write(text)
		must(t, errors.Join(err, f.Sync(), f.Close()))
		before := stat(t, temp)
		must(t, os.Rename(temp, dir+"/"+name))
		if after := stat(t, dir+"/"+name); after.Ino != before.Ino || after.Size != int64(len(text)) {
			t.Errorf("%s: inode %d of %d bytes, was %d", name, after.Ino, after.Size, before.Ino)
		}
	}
	save(inbox, "u.1")
	s.Unlock(t, "alice")
	save(inbox, "u.2")
	must(t, os.Link(inbox+"/u.2", sent+"/.temp.1795331118.P5231Q0M1.host.example.org"))
	must(t, os.Rename(sent+"/.temp.1795331118.P5231Q0M1.host.example.org", sent+"/u.1"))
	s.Lock(t, "alice")
	for _, path := range []string{inbox + "/u.1", inbox + "/u.2", sent + "/u.1", inbox + "/dovecot.index.cache"} {
		refused(t, path)
	}
	readable(t, inbox+"/dovecot.index", []byte("index"))
	readable(t, inbox+"/dovecot.index.log", []byte("log"))
	save(inbox, "u.3")
	readable(t, inbox+"/u.3", text)
	s.Unlock(t, "alice")
	for _, path := range []string{inbox + "/u.1", inbox + "/u.2", inbox + "/u.3", sent + "/u.1"} {
		readable(t, path, text)
	}
	noClear(t, s, "body-sdbox")
}
