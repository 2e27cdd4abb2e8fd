package hostile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// TestManifestVerb lists the messages of a store, lets daily life go on, then deletes, empties and rolls back behind the
// daemon's back: the manifest shows the latter alone.
func TestManifestVerb(t *testing.T) {
	s := harness.Start(t, harness.Options{Profile: "dovecot-maildir"})
	box := harness.Maildir(t, vmail, s.View, "alice")
	for _, name := range []string{"1.M1.host", "2.M2.host", "3.M3.host", "4.M4.host", "5.M5.host"} {
		deliver(t, box+"/new/"+name, text("alice", name, 0, 5000)) // under the key of the site
	}
	sealed := map[string][]byte{}
	for _, name := range []string{"1.M1.host", "3.M3.host"} {
		b, err := os.ReadFile(storePath(t, s, box+"/new/"+name))
		must(t, err)
		sealed[name] = b
	}
	file := filepath.Join(harness.Dir(t), "manifest")
	// verify runs the verb and returns the count of each kind of finding, and what the summary says of the manifest.
	verify := func(code int, args ...string) (map[string]int, map[string]any) {
		t.Helper()
		r := s.Call(t, nil, "verify", append([]string{"--json"}, args...)...)
		var doc struct {
			Summary struct {
				Findings map[string]int
				Manifest map[string]any
			}
		}
		if r.Code != code {
			t.Fatalf("verify %q: exit %d: %s %s", args, r.Code, r.Out, r.Err)
		}
		if code == 0 || code == 65 && r.Out != "" {
			must(t, json.Unmarshal([]byte(r.Out), &doc))
		}
		return doc.Summary.Findings, doc.Summary.Manifest
	}
	verify(0, "--write-manifest", file)
	info, err := os.Stat(file)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if found := harness.FindClear(t, []string{"M1.host"}, file); len(found) > 0 {
		t.Errorf("the manifest tells more than the store: %q", found)
	}

	s.Enroll(t, "alice")
	s.Unlock(t, "alice")
	harness.Run(t, harness.Binary(t), "encrypt", "--config", s.Config, "alice", "--wait")
	must(t, os.Rename(box+"/new/1.M1.host", box+"/cur/1.M1.host:2,S"))
	deliver(t, box+"/new/6.M6.host", text("alice", "6", 0, 100))
	if found, m := verify(0, "--manifest", file); m["gone"] != 0.0 || m["replaced"] != 0.0 || m["new"] != 1.0 || m["sealed_anew"] != 5.0 {
		t.Errorf("after daily life: %v, %v", found, m)
	}
	verify(0, "--write-manifest", file)

	stored := map[string]string{}
	for _, path := range []string{"cur/1.M1.host:2,S", "new/2.M2.host", "new/3.M3.host"} {
		stored[path] = storePath(t, s, box+"/"+path)
	}
	s.Stop(t)
	must(t, os.WriteFile(stored["cur/1.M1.host:2,S"], sealed["1.M1.host"], 0o600))
	must(t, os.Remove(stored["new/2.M2.host"]))
	must(t, os.Truncate(stored["new/3.M3.host"], 0))
	if found, _ := verify(0); len(found) != 0 && found["delivery-unused"] == 0 {
		t.Errorf("without a manifest: %v", found)
	}
	found, m := verify(65, "--manifest", file)
	if found["message-gone"] != 1 || found["message-replaced"] != 2 || m["present"] != 3.0 {
		t.Errorf("with the manifest: %v, %v", found, m)
	}
	verify(65, "--manifest", file, "--user", "alice")

	good, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, bytes.Replace(good, []byte("message 5116"), []byte("message 5117"), 1), 0o600))
	if bytes.Contains(good, []byte("message 5116")) {
		verify(65, "--manifest", file)
	}
	verify(64, "--manifest", file, box)
	verify(64, "--write-manifest", s.Store+"/manifest")
	verify(66, "--manifest", file+".none")
}
