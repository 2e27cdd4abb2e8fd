package recovery

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

func TestSlots(t *testing.T) {
	both(t, func(t *testing.T, s *harness.Site, b *box, up bool) {
		var sheet string
		without(t, s, up, func() {
			good(t, s, secrets{"password": password(alice), "new": "for the phone"}, "slot", "add", alice, "--label", "phone")
			bad(t, s, noPerm, "wrong password", secrets{"password": "x", "new": "y"}, "slot", "add", alice)
			sheet = filepath.Join(harness.Dir(t), "alice.html")
			out := good(t, s, secrets{"password": "for the phone"}, "slot", "add", "--recovery-code", alice, "--sheet", sheet)
			if !strings.Contains(out, sheet) {
				t.Error(out)
			}
			all := slots(t, s, alice)
			if !slices.Equal(kinds(all), []string{"code", "password", "password"}) || all[1].Label != "phone" || all[2].By != "mailcryptfs slot" {
				t.Errorf("%+v", all)
			}
			// The sheet is for its owner alone, is written once, and holds the code once as text.
			info, err := os.Stat(sheet)
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			bad(t, s, cantCreate, "is there already", secrets{"password": "for the phone"}, "slot", "add", "--recovery-code", alice, "--sheet", sheet)
			bad(t, s, usage, "html", secrets{"password": "for the phone"}, "slot", "add", "--recovery-code", alice, "--sheet", sheet+".pdf")
			if n := len(slots(t, s, alice)); n != 3 {
				t.Errorf("%d slots: one was made for a sheet that could not be written", n)
			}
		})
		unlocks(t, s, alice, "for the phone")
		unlocks(t, s, alice, password(alice))
		all := slots(t, s, alice)
		without(t, s, up, func() {
			bad(t, s, noInput, "no slot", nil, "slot", "revoke", alice, "phone")
			bad(t, s, noInput, "no such slot", nil, "slot", "revoke", alice, "0123456789abcdef")
			good(t, s, nil, "slot", "revoke", alice, all[1].ID)
		})
		refused(t, s, alice, "for the phone")
		unlocks(t, s, alice, password(alice))
		without(t, s, up, func() {
			good(t, s, nil, "slot", "revoke", alice, all[2].ID)
			bad(t, s, noPerm, "last slot", nil, "slot", "revoke", alice, all[0].ID)
			good(t, s, nil, "slot", "revoke", alice, all[0].ID, "--force")
		})
		refused(t, s, alice, password(alice))
		b.locked(t)
	})
}

// TestSlotsOfASession: who is unlocked needs no secret to add a slot, and the loss of the slot that opened the session does
// not end it.
func TestSlotsOfASession(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	s.Enroll(t, alice)
	b := newBox(t, s, alice)
	b.deliver(t, "new", 3000)
	good(t, s, secrets{"password": password(alice)}, "unlock", alice)
	good(t, s, secrets{"new": "second"}, "slot", "add", alice, "--label", "second")
	good(t, s, nil, "slot", "revoke", alice, slots(t, s, alice)[0].ID)
	b.readable(t, s)
	good(t, s, nil, "lock", alice)
	refused(t, s, alice, password(alice))
	good(t, s, secrets{"password": "second"}, "unlock", alice)
	b.readable(t, s)
}

// TestOneDerivation: a wrong password costs one Argon2 run, however many slots there are.
func TestOneDerivation(t *testing.T) {
	s := harness.New(t, harness.Options{})
	text, err := os.ReadFile(s.Config)
	must(t, err)
	// Slow enough to be told from everything else.
	text = []byte(strings.Replace(string(text), "kdf_time = 1\n", "kdf_time = 6\n", 1))
	must(t, os.WriteFile(s.Config, text, 0o600))
	s.Serve(t)
	s.Enroll(t, alice)
	wrong := func() time.Duration {
		began := cpuTime(t, s.PID())
		refused(t, s, alice, "wrong")
		return cpuTime(t, s.PID()) - began
	}
	one := min(wrong(), wrong())
	good(t, s, secrets{"password": password(alice)}, "unlock", alice)
	for range 6 {
		good(t, s, secrets{"new": "another password"}, "slot", "add", alice)
	}
	good(t, s, nil, "lock", alice)
	if seven := min(wrong(), wrong()); one == 0 || seven > 3*one {
		t.Errorf("a wrong password took %v with one slot, and %v with seven", one, seven)
	}
}

// cpuTime is how long a process has computed (proc(5), stat): unlike the time on the wall, nobody else adds to it.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	must(t, err)
	system, err := strconv.Atoi(fields[12])
	must(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// TestFullDisk: what cannot be written leaves everything as it was.
func TestFullDisk(t *testing.T) {
	s := harness.Start(t, harness.Options{Store: harness.Image{MiB: 64}})
	s.Enroll(t, alice)
	sheet := code(t, s, alice)
	b := newBox(t, s, alice)
	b.deliver(t, "new", 3000)
	before := slots(t, s, alice)
	s.Announce("audit log|cannot bring|no space left|delivery key")
	fill := filepath.Join(s.StoreFS, "fill")
	f, err := os.Create(fill)
	must(t, err)
	for size := 1 << 20; size >= 512; size /= 2 {
		for _, err = f.Write(make([]byte, size)); err == nil; _, err = f.Write(make([]byte, size)) {
		}
	}
	must(t, f.Close())
	bad(t, s, ioErr, "no space left", secrets{"old": password(alice), "new": "two"}, "passwd", alice)
	bad(t, s, ioErr, "no space left", secrets{"code": sheet, "new": "two"}, "passwd", alice)
	bad(t, s, ioErr, "no space left", secrets{"password": password(alice), "new": "two"}, "slot", "add", alice)
	bad(t, s, ioErr, "no space left", nil, "rotate", alice)
	bad(t, s, ioErr, "no space left", nil, "slot", "revoke", alice, before[1].ID)
	s.Stop(t)
	bad(t, s, ioErr, "no space left", secrets{"code": sheet, "new": "two"}, "passwd", alice)
	bad(t, s, ioErr, "no space left", nil, "rotate", alice)
	must(t, os.Remove(fill))
	s.Serve(t)
	if after := slots(t, s, alice); !slices.Equal(after, before) {
		t.Errorf("slots were %+v, are %+v", before, after)
	}
	refused(t, s, alice, "two")
	good(t, s, secrets{"password": password(alice)}, "unlock", alice)
	b.readable(t, s)
	good(t, s, secrets{"old": password(alice), "new": "two"}, "passwd", alice)
	good(t, s, nil, "lock", alice)
	unlocks(t, s, alice, "two")
}
