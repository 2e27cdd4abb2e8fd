package worker

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// BenchmarkConvert converts a plain maildir of 3000 messages and converts it back, and copies the same files with cp -a
// and sync on the same filesystem, in one run. There is something to convert once: run it with -benchtime 1x.
func BenchmarkConvert(b *testing.B) {
	const messages = 3000
	s := harness.New(b, harness.Options{Profile: "dovecot-maildir"})
	box := filepath.Join(s.Store, "alice")
	maildir(b, box, messages)
	var size int64
	files := 0
	must(b, filepath.Walk(box, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
			files++
		}
		return err
	}))
	copied := filepath.Join(s.StoreFS, "copy")
	report := func(b *testing.B, f func()) {
		var took time.Duration
		for b.Loop() {
			must(b, os.RemoveAll(copied))
			harness.Run(b, "sync", "-f", s.StoreFS)
			began := time.Now()
			f()
			took += time.Since(began)
		}
		per := took.Seconds() / float64(b.N)
		b.ReportMetric(float64(files)/per, "files/s")
		b.ReportMetric(float64(size)/1e6/per, "MB/s")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("cp", func(b *testing.B) {
		report(b, func() {
			harness.Run(b, "cp", "-a", box, copied)
			harness.Run(b, "sync", "-f", s.StoreFS)
		})
	})
	s.Serve(b)
	s.Enroll(b, "alice")
	for _, verb := range []string{"encrypt", "decrypt"} {
		b.Run(verb, func(b *testing.B) {
			report(b, func() {
				if verb == "encrypt" {
					s.Unlock(b, "alice")
				}
				if r := s.Call(b, nil, verb, "alice", "--wait"); r.Code != 0 {
					b.Fatalf("%s: %d: %s%s", verb, r.Code, r.Out, r.Err)
				}
			})
		})
	}
}
