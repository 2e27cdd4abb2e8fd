package soak

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

var (
	soakTime  = flag.Duration("soak.time", 60*time.Second, "how long clients, deliveries and locks go on")
	soakUsers = flag.Int("soak.users", 200, "how many users there are")
)

const (
	clients    = 20
	deliverers = 4
	lockers    = 3
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, nil)) }

// account is a user, and the messages that the servers have acknowledged.
type account struct {
	name string
	busy sync.Mutex // held by the client that uses the mailbox

	mu       sync.Mutex
	mail     map[string]bool // by Message-ID; false: a client deletes it now, so that it may be there or not
	removed  map[string]bool // acknowledged to be deleted
	deleting map[string]bool // a client has begun to delete it
	locked   int             // how often it was locked: a session may be refused if that changed
}

// soak is one run.
type soak struct {
	*testing.T
	s        *harness.Site
	h        *host
	pam      string
	accounts []*account
	stop     chan struct{}
	next     atomic.Int64
	counts   sync.Map // what was done, by name
}

func (k *soak) count(what string) {
	v, _ := k.counts.LoadOrStore(what, new(atomic.Int64))
	v.(*atomic.Int64).Add(1)
}

func (k *soak) over() bool {
	select {
	case <-k.stop:
		return true
	default:
		return k.Failed()
	}
}

func (k *soak) random() *account { return k.accounts[rand.IntN(len(k.accounts))] }

// unlock is what the PAM module does at a login; the first one enrols.
func (k *soak) unlock(a *account) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := wire.Ask(ctx, k.pam, wire.Request{Kind: wire.Login, User: a.name, Service: "imap", Password: harness.Password(a.name)})
	if err != nil || answer.Status != wire.OK && answer.Status != wire.Busy {
		return false, fmt.Errorf("unlock of %s: %v %w", a.name, answer, err)
	}
	if answer.Status == wire.Busy {
		k.count("turned away, busy")
		return false, nil
	}
	k.count("unlocked")
	return true, nil
}

// lock removes the keyring entry, as whoever locks does.
func (k *soak) lock(a *account) error {
	a.mu.Lock() // over both: a session that finds the entry also finds that it was not locked since
	a.locked++
	err := os.Remove(filepath.Join(k.s.Keyring, a.name))
	a.mu.Unlock()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	k.count("locked")
	return err
}

// worker runs do until the end.
func (k *soak) worker(wg *sync.WaitGroup, do func() error) {
	wg.Go(func() {
		for !k.over() {
			if err := do(); err != nil {
				k.Error(err)
			}
		}
	})
}

func (k *soak) relock() error {
	a := k.random()
	if rand.IntN(3) == 0 {
		_, err := k.unlock(a)
		return err
	}
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	return k.lock(a)
}

// TestSoak is what the package is for.
func TestSoak(t *testing.T) {
	s := harness.New(t, harness.Options{Profile: "dovecot-maildir", Epoch: "2s", Lines: "enroll = \"auto\"\nrecovery = \"none\"\n"})
	s.Serve(t)
	k := &soak{T: t, s: s, h: startHost(t, s.View), pam: filepath.Join(filepath.Dir(s.Control), "pam.sock"), stop: make(chan struct{})}
	s.Announce(`PAM request refused: too many connections|status=busy`)
	for i := range *soakUsers {
		a := &account{name: fmt.Sprintf("user%d", i), mail: map[string]bool{}, removed: map[string]bool{}, deleting: map[string]bool{}}
		must(t, os.Mkdir(filepath.Join(s.View, a.name), 0o700))
		must(t, os.Chown(filepath.Join(s.View, a.name), mailUID, mailUID))
		k.accounts = append(k.accounts, a)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		k.worker(&wg, k.session)
	}
	for range deliverers {
		k.worker(&wg, k.deliver)
	}
	for range lockers {
		k.worker(&wg, k.relock)
	}
	growth := k.watch(*soakTime)
	close(k.stop)
	wg.Wait()
	t.Logf("%v", time.Since(began).Round(time.Second))
	k.counts.Range(func(what, n any) bool {
		t.Logf("%6d %s", n.(*atomic.Int64).Load(), what)
		return true
	})
	k.settle()
	k.judgeMail()
	k.judgeGrowth(growth)
	complaints, refusals := k.h.complaints(t)
	for _, line := range complaints[:min(len(complaints), 40)] {
		t.Errorf("dovecot: %s", line)
	}
	t.Logf("dovecot reports %d refused opens", refusals)
	if r := s.Call(t, nil, "verify", "--json"); r.Code != 0 {
		t.Errorf("verify: exit %d: %.3000s", r.Code, r.Out)
	}
	k.judgeEnd()
}

// settle lets everybody log out, and locks all users.
func (k *soak) settle() {
	for _, a := range k.accounts {
		must(k, k.lock(a))
	}
	harness.Eventually(k, patience, "nobody is unlocked", func() bool { return k.s.Status(k)["unlocked"] == 0.0 })
}
