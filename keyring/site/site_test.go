package site

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// exampleSecret is the site secret of the examples in FORMAT.md.
func exampleSecret() []byte {
	s := make([]byte, 32)
	for i := range s {
		s[i] = byte(i)
	}
	return s
}

// expand is RFC 5869 written out once more, so that the labels are not checked against themselves alone.
func expand(prk []byte, info string, n int) []byte {
	var out, last []byte
	for i := byte(1); len(out) < n; i++ {
		m := hmac.New(sha256.New, prk)
		m.Write(last)
		m.Write([]byte(info))
		m.Write([]byte{i})
		last = m.Sum(nil)
		out = append(out, last...)
	}
	return out[:n]
}

func TestDerive(t *testing.T) {
	t.Parallel()
	s := exampleSecret()
	k, err := Derive(s)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	if !bytes.Equal(s, make([]byte, 32)) {
		t.Error("the secret was not wiped")
	}
	m := hmac.New(sha256.New, []byte("mailcryptfs site v1"))
	m.Write(exampleSecret())
	prk := m.Sum(nil)
	for label, key := range map[string]*secret.Key{
		"names mac": k.NamesMAC, "names enc": k.NamesEnc, "meta content key": k.Meta.Key,
		"site delivery content key": k.Delivery.Key, "record mac": k.RecordMAC, "xattr": k.XAttr, "audit mac": k.Audit,
	} {
		_ = key.Use(func(b []byte) error {
			if !bytes.Equal(b, expand(prk, label, 32)) {
				t.Errorf("%s: got %x", label, b)
			}
			return nil
		})
	}
	for label, id := range map[string]secret.ID{"meta content key id": k.Meta.ID, "site delivery content key id": k.Delivery.ID} {
		if !bytes.Equal(id[:], expand(prk, label, 16)) {
			t.Errorf("%s: got %s", label, id)
		}
	}
	salt := bytes.Repeat([]byte{9}, 16)
	got, err := k.ArgonSalt(salt)
	if err != nil || !bytes.Equal(got, expand(prk, "argon2 salt"+string(salt), 16)) {
		t.Errorf("salt: %x, %v", got, err)
	}
	if _, err := k.ArgonSalt(salt[:15]); err == nil {
		t.Error("15 bytes of salt were taken")
	}
	k.Wipe()
	if _, err := k.ArgonSalt(salt); !errors.Is(err, secret.ErrWiped) {
		t.Errorf("after Wipe: %v", err)
	}
	if !k.Meta.Key.Wiped() || !k.Delivery.Key.Wiped() || !k.NamesEnc.Wiped() {
		t.Error("a key was not wiped")
	}
}

func TestGenerateAndLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	if err := Generate(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o400 || st.Size() != int64(fileSize) {
		t.Fatalf("%v, %v", st, err)
	}
	k, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	k.Wipe()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Generate(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second Generate: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("a second Generate touched the file")
	}
}

func TestGenerateLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "missing", "secret")
	if err := Generate(path); err == nil {
		t.Fatal("no error")
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	line := string(Encode(exampleSecret()))
	tests := []struct {
		name, content string
		mode          os.FileMode
		want          string // in the error
	}{
		{"group may read", line, 0o440, "chmod 0400"},
		{"others may write", line, 0o602, "chmod 0400"},
		{"empty", "", 0o400, "not a site secret"},
		{"no newline", line[:len(line)-1], 0o400, "not a site secret"},
		{"two newlines", line + "\n", 0o400, "not a site secret"},
		{"long", line + strings.Repeat("x", 4096), 0o400, "not a site secret"},
		{"upper case", strings.ToUpper(line), 0o400, "not a site secret"},
		{"upper case digits", strings.Replace(line, "0a0b", "0A0B", 1), 0o400, "not a site secret"},
		{"other version", strings.Replace(line, "-1:", "-2:", 1), 0o400, "not a site secret"},
		{"not hex", strings.Replace(line, "0a", "zz", 1), 0o400, "not a site secret"},
		{"CRLF", line[:len(line)-1] + "\r\n", 0o400, "not a site secret"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "0001020304") {
				t.Error("the error tells the secret")
			}
		})
	}
}

func TestLoadRefusesKinds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	if err := Generate(real); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o400); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign")
	if err := Generate(foreign); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(foreign, 12345, 0); err != nil {
		t.Fatalf("these tests run as root: %v", err)
	}
	for path, want := range map[string]string{
		link: "symbolic link", fifo: "not a regular file", dir: "not a regular file", foreign: "chown root",
		filepath.Join(dir, "none"): "no such file",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(entries) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrContent) || s != nil {
				t.Errorf("%x, %v", s, err)
			}
			return
		}
		if again := Encode(s); !bytes.Equal(again, b) {
			t.Errorf("%q became %q", b, again)
		}
	})
}
