package export

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// dbox is a message in Dovecot's single-dbox format, version 2, as Dovecot 2.3 writes it.
func dbox(content string, received time.Time, more string) string {
	return "2 M1e C65aa5f3e\n" + fmt.Sprintf("\x01\x02N          %016x\n", len(content)) + content +
		fmt.Sprintf("\n\x01\x03\nR%x\nG00112233445566778899aabbccddeeff\nV%x\n%s\n", received.Unix(), len(content), more)
}

// TestDbox makes a maildir of the mailboxes of sdbox.
func TestDbox(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-sdbox"})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	when := time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)
	write := func(name, content string) {
		path := filepath.Join(s.View, "alice", name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	write("mailboxes/INBOX/dbox-Mails/u.1", dbox(message("one", 300), when, ""))
	write("mailboxes/INBOX/dbox-Mails/u.12", dbox(message("twelve", 9000), when, ""))
	write("mailboxes/INBOX/dbox-Mails/dovecot.index", "x")
	write("mailboxes/Work/Old/dbox-Mails/u.3", dbox(message("three", 50), when, ""))
	write("mailboxes/Work/Old/dbox-Mails/u.4", dbox("", when, "X/attachments/1"))
	write("mailboxes/Work/Old/dbox-Mails/u.5", "2 M1e\n\x01\x02N          ffffffffffffffff\nx")
	write("subscriptions", "Work/Old\n")
	out := harness.Dir(t)
	r := s.Call(t, nil, "export", "alice", out+"/d")
	expect(t, r, dataErr, "3 messages in 2 folders", "mailboxes/Work/Old/dbox-Mails/u.4: not exported: it is not a file of Dovecot's dbox format")
	got := readDir(t, out+"/d")
	want := map[string]string{
		fmt.Sprintf("cur/%d.U1.mailcryptfs,S=%d:2,", when.Unix(), len(message("one", 300))):            message("one", 300),
		fmt.Sprintf("cur/%d.U12.mailcryptfs,S=%d:2,", when.Unix(), len(message("twelve", 9000))):       message("twelve", 9000),
		fmt.Sprintf(".Work.Old/cur/%d.U3.mailcryptfs,S=%d:2,", when.Unix(), len(message("three", 50))): message("three", 50),
		".Work.Old/maildirfolder": "",
	}
	compareContent(t, got, want)
	for name, f := range got {
		if f.content != "" && !f.mtime.Equal(when) {
			t.Errorf("%s: %v", name, f.mtime)
		}
	}
	expect(t, s.Call(t, nil, "export", "alice", "--mbox", out+"/m"), dataErr, "3 messages", "")
	if names := slices.Sorted(maps.Keys(readDir(t, out+"/m"))); !slices.Equal(names, []string{"INBOX.mbox", "Work.Old.mbox"}) {
		t.Errorf("files %q", names)
	}
}

func compareContent(t *testing.T, got map[string]file, want map[string]string) {
	t.Helper()
	for name, content := range want {
		if f, ok := got[name]; !ok || f.content != content {
			t.Errorf("%q: found %v, %d bytes, want %d", name, ok, len(f.content), len(content))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%q is too much", name)
		}
	}
}

// cyrusIndex is a cyrus.index of version 17 with these records.
func cyrusIndex(records ...[4]uint32) string {
	const header, size = 160, 104
	b := make([]byte, header+size*len(records))
	put := func(off int, v uint32) { binary.BigEndian.PutUint32(b[off:], v) }
	put(4, 17)
	put(12, header)
	put(16, size)
	put(20, uint32(len(records)))
	for i, r := range records {
		at := header + i*size
		put(at, r[0])
		put(at+4, r[1])
		put(at+12, r[2])
		put(at+32, r[3])
	}
	return string(b)
}

// TestCyrus makes a maildir of Cyrus' mailboxes in their old directories.
func TestCyrus(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "cyrus"})
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	when := time.Date(2020, 5, 6, 7, 8, 9, 0, time.UTC)
	write := func(name, content string) {
		path := filepath.Join(s.View, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	box := func(dir, index string) {
		write(dir+"/cyrus.header", "\241\202\213\015\012Cyrus mailbox header\n")
		write(dir+"/cyrus.index", index)
	}
	at := uint32(when.Unix())
	box("user/alice", cyrusIndex([4]uint32{1, at, 10, 1<<4 | 1<<1}, [4]uint32{2, at, 10, 1 << 31}, [4]uint32{7, at, 10, 0}))
	write("user/alice/1.", message("one", 300))
	write("user/alice/2.", message("expunged", 300))
	write("user/alice/7.", message("seven", 5000))
	box("user/alice/Work^x", "not an index")
	write("user/alice/Work^x/3.", message("three", 50))
	must(t, os.Chtimes(filepath.Join(s.View, "user/alice/Work^x/3."), when, when))
	write("user/bob/1.", message("bob", 50))
	out := harness.Dir(t)
	r := s.Call(t, nil, "export", "alice", out+"/d")
	expect(t, r, dataErr, "3 messages in 2 folders", "cyrus.index: not exported")
	compareContent(t, readDir(t, out+"/d"), map[string]string{
		fmt.Sprintf("cur/%d.U1.mailcryptfs,S=%d:2,FS", at, len(message("one", 300))):        message("one", 300),
		fmt.Sprintf("cur/%d.U7.mailcryptfs,S=%d:2,", at, len(message("seven", 5000))):       message("seven", 5000),
		fmt.Sprintf(".Work^x/cur/%d.U3.mailcryptfs,S=%d:2,", at, len(message("three", 50))): message("three", 50),
		".Work^x/maildirfolder": "",
	})
}

// TestRecoverySecrets exports a locked user, with no daemon, by the recovery code and by the recovery key.
func TestRecoverySecrets(t *testing.T) {
	s := harness.New(t, harness.Options{})
	dir := harness.Dir(t)
	key := filepath.Join(dir, "recovery.age")
	expect(t, s.Call(t, nil, "setup", "--recovery", key), 0, "", "")
	s.Serve(t)
	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	want := fill(t, s.View, "alice")
	var added struct{ Code string }
	r := s.Call(t, harness.Password("alice"), "slot", "add", "--recovery-code", "--json", "alice")
	must(t, json.Unmarshal([]byte(r.Out), &added))
	s.Stop(t)
	must(t, os.RemoveAll(s.Keyring)) // the machine has restarted
	code := filepath.Join(dir, "code")
	must(t, os.WriteFile(code, []byte(strings.ToLower(added.Code)+"\n"), 0o600))
	wrong := filepath.Join(dir, "wrong")
	must(t, os.WriteFile(wrong, []byte("0000-0000\n"), 0o600))
	if r := s.Call(t, nil, "export", "alice", dir+"/wrong.d", "--code-file", wrong); r.Code == 0 || strings.Contains(r.Err, "panic") {
		t.Errorf("exit %d, %s", r.Code, r.Err)
	}
	expect(t, s.Call(t, nil, "export", "alice", dir+"/code.d", "--code-file", code), 0, "19 messages", "")
	compare(t, readDir(t, dir+"/code.d"), want, 0)
	expect(t, s.Call(t, nil, "export", "alice", dir+"/key.d", "--recovery-key", key), 0, "19 messages", "")
	compare(t, readDir(t, dir+"/key.d"), want, 0)
	must(t, os.Mkdir(s.Keyring, 0o700))
}
