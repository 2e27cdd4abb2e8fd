package export

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// nobody has keys: the stores of these tests hold plain files.
type nobody struct{}

func (nobody) OpeningKey(account.User, secret.ID) (*secret.Key, error) { return nil, secret.ErrLocked }

// plainStore is a store of plain files of alice, who is not enrolled.
type plainStore struct {
	path, profile string
}

func newStore(t testing.TB, profile string) *plainStore {
	return &plainStore{t.TempDir(), profile}
}

// file is where the store keeps a file of alice.
func (s *plainStore) file(name string) string {
	root := "alice"
	if s.profile == "cyrus" {
		root = "user/alice"
	}
	return filepath.Join(s.path, root, name)
}

func (s *plainStore) write(t testing.TB, name, content string) {
	t.Helper()
	path := s.file(name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

// message puts a message into a folder, and returns its name below it. Marker is in it once.
func (s *plainStore) message(t testing.TB, folder string, n int) string {
	t.Helper()
	content := fmt.Sprintf("Subject: %s\n\ntext\n", marker(n))
	name := fmt.Sprintf("new/%d.host", n)
	switch s.profile {
	case "dovecot-sdbox":
		name = fmt.Sprintf("dbox-Mails/u.%d", n)
		content = "2 M1e C65aa5f3e\n" + fmt.Sprintf("\x01\x02N          %016x\n", len(content)) + content + "\n\x01\x03\nR65aa5f3e\n\n"
	case "cyrus":
		name = fmt.Sprintf("%d.", n)
		s.write(t, filepath.Join(folder, "cyrus.header"), "\241\202\213\015\012Cyrus mailbox header\n")
		s.write(t, filepath.Join(folder, indexName), emptyIndex())
	}
	s.write(t, filepath.Join(folder, name), content)
	return name
}

func marker(n int) string { return fmt.Sprintf("message-%d.", n) }

// emptyIndex is a cyrus.index of version 17 with no records.
func emptyIndex() string {
	b := make([]byte, 160)
	b[7], b[15], b[19] = 17, 160, 104
	return string(b)
}

func (s *plainStore) open(t testing.TB) *offline.Store {
	t.Helper()
	secret := make([]byte, 32)
	keys, err := site.Derive(secret)
	must(t, err)
	t.Cleanup(keys.Wipe)
	o, err := offline.Open(offline.Options{Store: s.path, Site: keys, Keys: nobody{}, Profile: s.profile, UserPath: "%u"})
	must(t, err)
	t.Cleanup(o.Close)
	return o
}

func (s *plainStore) options(t testing.TB, f Format, d Dest) Options {
	return Options{
		Store: s.open(t), User: "alice", Profile: s.profile, Format: f, Dest: d,
		Problem: func(path string, err error) { t.Errorf("%s: not exported: %v", path, err) },
	}
}

// watched calls before before a message reaches the destination. Messages of the tests are small: they come at once.
type watched struct {
	Dest
	before func(path []string, content string)
}

// once makes f do something the first time only.
func once(f func(path []string)) func([]string, string) {
	var o sync.Once
	return func(path []string, _ string) { o.Do(func() { f(path) }) }
}

func (w *watched) File(path []string, size int64, modified time.Time, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if size > 0 {
		w.before(path, string(b))
	}
	return w.Dest.File(path, size, modified, bytes.NewReader(b))
}

func (w *watched) Stream(path []string, fill func(io.Writer) error) error {
	return w.Dest.Stream(path, func(to io.Writer) error { return fill(&watchedWriter{to, w, path}) })
}

type watchedWriter struct {
	io.Writer
	w    *watched
	path []string
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	w.w.before(w.path, string(b))
	return w.Writer.Write(b)
}

// destination makes a directory or a tar stream, and returns a function that gives all that was written to it.
func destination(t testing.TB, kind string) (Dest, func() string) {
	t.Helper()
	if kind == "tar" {
		var out bytes.Buffer
		d, err := NewTar(&out, "alice", t.TempDir(), nil)
		must(t, err)
		return d, out.String
	}
	path := filepath.Join(t.TempDir(), "out")
	d, err := NewDirectory(path)
	must(t, err)
	return d, func() string {
		var all strings.Builder
		must(t, filepath.Walk(path, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			all.Write(b)
			return err
		}))
		return all.String()
	}
}

// folderNames are the names of folders in the store, by profile.
var folderNames = map[string]string{"maildir": ".F%d", "dovecot-sdbox": "mailboxes/F%d", "cyrus": "F%d"}
