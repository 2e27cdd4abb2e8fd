package unlock

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAskingWhetherAnybodyListens(t *testing.T) {
	socket, j, stop := start(t, new(recorder), Options{})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	ask(t, socket, login("alice", "pw"))
	stop()
	if n := strings.Count(j.String(), "\n"); n != 1 {
		t.Errorf("log: %s", j)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pam.sock")
	for range 2 { // the second time in place of a socket that was left
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if _, err := Listen(filepath.Join(path, "x")); err == nil {
		t.Error("listening below a socket")
	}
}
