package keyring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/records"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const killChild = "KEYRING_TEST_KILL"

// TestKill kills a process that rotates without end, at random moments. What it says of its key, that it has it, or that
// it has moved everything to it, must be true afterwards.
func TestKill(t *testing.T) {
	if dirs := os.Getenv(killChild); dirs != "" {
		rotateForever(t, dirs)
		return
	}
	t.Parallel()
	f := newFixture(t)
	r := f.open(t)
	must(t, r.EnrollAndUnlock(t.Context(), alice, []byte("pw"), "test"))
	r.Close()
	finished := 0
	for round := range 12 {
		last, n := killed(t, f)
		finished += n
		d, err := records.Open(f.Store, f.Site.RecordMAC)
		must(t, err)
		loaded, err := d.Read(alice)
		if err != nil || loaded.Warning != nil {
			t.Fatalf("round %d: %v, %v", round, err, loaded.Warning)
		}
		d.Close()
		r := f.open(t)
		if !r.Holds(alice) {
			t.Fatalf("round %d: the keyring entry opens nothing any more", round)
		}
		id, err := secret.ParseID(last)
		must(t, err)
		if _, err := r.OpeningKey(alice, id); err != nil {
			t.Fatalf("round %d: the key that everything is under is lost: %v", round, err)
		}
		ck, err := r.SealingKey(alice)
		must(t, err)
		if x, ok, err := r.Rotation(alice); err != nil {
			t.Fatal(err)
		} else if ok {
			must(t, r.FinishRotation(t.Context(), alice, x))
		}
		if rec := r.lookup(alice).record(); len(rec.ContentKeys) != 1 || rec.Current().ID != ck.ID || len(rec.Identities) != 0 || rec.Rotation != nil {
			t.Errorf("round %d: %d content keys, %d old identities", round, len(rec.ContentKeys), len(rec.Identities))
		}
		must(t, r.Lock(alice))
		must(t, r.Unlock(t.Context(), alice, []byte("pw")))
		r.Close()
	}
	if finished == 0 {
		t.Error("no rotation was ever finished: the moments of the kills say nothing")
	}
}

// killed runs the child for a moment, and returns the last key that it spoke of and how many rotations it finished.
func killed(t *testing.T, f *fixture) (last string, finished int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), killChild+"="+f.Store+"\n"+f.Dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	// By what it says, and some steps later: the same on a busy machine.
	left := 1 + rand.IntN(8)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, id, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "has", "moved":
			last = id
		case "finished":
			finished++
		case "failed":
			t.Errorf("the child: %s", id)
		}
		if left--; left == 0 {
			time.AfterFunc(time.Duration(rand.IntN(10))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() || last == "" {
		t.Fatalf("the child was not killed: %v", err)
	}
	return last, finished
}

// rotateForever is the child.
func rotateForever(t *testing.T, dirs string) {
	ctx := context.Background()
	store, dir, _ := strings.Cut(dirs, "\n")
	f := fixtureIn(t, store, dir) // the parent's: nothing of the child's own is left behind
	r := f.open(t)
	say := func(what string, ck secret.ContentKey) { fmt.Println(what, ck.ID) }
	for i := 0; ; i++ {
		ck, err := r.SealingKey(alice)
		if err == nil {
			say("has", ck)
			err = r.Rotate(ctx, alice, i%2 == 0, "test")
		}
		var x Rotation
		if err == nil {
			x, _, err = r.Rotation(alice)
		}
		if err == nil {
			ck, err = r.SealingKey(alice)
		}
		if err == nil {
			say("moved", ck)
			err = r.FinishRotation(ctx, alice, x)
		}
		if err != nil {
			fmt.Println("failed", err)
			return
		}
		say("finished", ck)
	}
}
