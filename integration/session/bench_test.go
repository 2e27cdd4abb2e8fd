package session

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

// BenchmarkLogin measures what the daemon adds to a login, with the default cost of passwords: from connecting to its
// socket, as the PAM module does, to the answer.
func BenchmarkLogin(b *testing.B) {
	s := harness.New(b, harness.Options{Profile: "dovecot-maildir"})
	text, err := os.ReadFile(s.Config)
	must(b, err)
	lines := strings.NewReplacer("kdf_memory_kib = 19456", "kdf_memory_kib = 65536", "kdf_time = 1", "kdf_time = 3").Replace(string(text))
	must(b, os.WriteFile(s.Config, []byte(lines+"enroll = \"auto\"\nrecovery = \"none\"\n"), 0o600))
	s.Serve(b)
	password := []byte("correct horse")
	enter := func(b *testing.B, user string) {
		if a, err := login(b.Context(), s, user, bytes.Clone(password)); err != nil || a.Status != wire.OK {
			b.Fatalf("%v %v", a, err)
		}
	}
	users := 0
	b.Run("enrolling", func(b *testing.B) {
		for b.Loop() {
			users++
			enter(b, fmt.Sprintf("user%d", users))
		}
	})
	b.Run("unlocking", func(b *testing.B) {
		enter(b, "alice")
		for b.Loop() {
			b.StopTimer()
			s.Lock(b, "alice")
			b.StartTimer()
			enter(b, "alice")
		}
	})
	b.Run("unlocked", func(b *testing.B) {
		for b.Loop() {
			enter(b, "alice")
		}
	})
}
