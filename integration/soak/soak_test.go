package soak

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// message makes a mail with a name of its own.
func (k *soak) message(size int) (id, text string) {
	id = fmt.Sprintf("<%d.soak@example.net>", k.next.Add(1))
	var b strings.Builder
	fmt.Fprintf(&b, "From: Sender <sender@example.net>\nTo: list@example.org\nSubject: %s\nDate: Mon, 2 Jan 2023 10:00:00 +0100\nMessage-ID: %s\n\n", id, id)
	for b.Len() < size {
		fmt.Fprintf(&b, "the text of %s at %d\n", id, b.Len())
	}
	return id, b.String()
}

// whole says whether a text is the message that its Message-ID tells: every line of the body names it and its place.
func whole(text string) (id string, ok bool) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	m := regexp.MustCompile(`(?m)^Message-ID: (<\d+\.soak@example\.net>)$`).FindStringSubmatchIndex(text)
	at := strings.Index(text, "From: Sender")
	if m == nil || at < 0 {
		return "", false
	}
	id, text = text[m[2]:m[3]], text[at:]
	head, body, found := strings.Cut(text, "\n\n")
	if !found {
		return id, false
	}
	n := len(head) + 2
	for line := range strings.Lines(body) {
		if line != fmt.Sprintf("the text of %s at %d\n", id, n) {
			return id, false
		}
		n += len(line)
	}
	return id, true
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

func (k *soak) deliver() error {
	users := map[string]*account{}
	for range 1 + rand.IntN(2) {
		a := k.random()
		users[a.name] = a
	}
	var names []string
	for name := range users {
		names = append(names, name)
	}
	id, text := k.message(200 + rand.IntN(30000)*rand.IntN(2))
	for _, a := range users {
		a.acknowledge(id, false) // until then it may be there or not
	}
	codes, err := k.h.lmtp(text, names...)
	if err != nil {
		return fmt.Errorf("LMTP to %v: %w", names, err)
	}
	for i, name := range names {
		a := users[name]
		if codes[i] == deferred {
			// The text for the second recipient is read from the message of the first: not if that one was locked, or
			// the delivery epoch ended, in this very moment.
			if i == 0 {
				return fmt.Errorf("LMTP to %v: %v", names, codes)
			}
			k.count("deliveries deferred by a lock or the end of an epoch")
			if again, err := k.h.lmtp(text, name); err != nil || again[0] != 250 {
				return fmt.Errorf("LMTP to %s, again: %v %w", name, again, err)
			}
		}
		a.acknowledge(id, true)
		k.count("delivered")
	}
	return nil
}

// acknowledge notes that a message is there for sure, or may be. One that a client has deleted already stays deleted.
func (a *account) acknowledge(id string, sure bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.removed[id] && !a.deleting[id] {
		a.mail[id] = sure
	}
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

// session is one client that logs in, works and leaves.
func (k *soak) session() error {
	a := k.random()
	if !a.busy.TryLock() {
		return nil
	}
	defer a.busy.Unlock()
	a.mu.Lock()
	before := a.locked
	a.mu.Unlock()
	away := rand.IntN(4) == 0 // a login that unlocks nobody
	if !away {
		done, err := k.unlock(a)
		if err != nil {
			return err
		}
		away = !done
	}
	c, err := k.h.login(a.name)
	if err != nil {
		return err
	}
	defer func() { _ = c.Logout() }()
	err = k.work(a, c)
	if err == nil {
		k.count("sessions")
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if away || a.locked != before { // it had to expect that
		k.count("sessions that met a lock")
		return nil
	}
	return fmt.Errorf("session of %s, who was unlocked all the time: %w", a.name, err)
}

func (k *soak) work(a *account, c *imap) error {
	if _, err := c.do("SELECT INBOX"); err != nil {
		return err
	}
	for range 3 + rand.IntN(5) {
		uids, err := c.uids()
		if err != nil {
			return err
		}
		uid := "0"
		if len(uids) > 0 {
			uid = uids[rand.IntN(len(uids))]
		}
		switch n := rand.IntN(6); {
		case n == 0:
			err = k.store(a, c)
		case uid == "0":
			_, err = c.do("NOOP")
		case n == 1:
			_, err = c.do(`UID STORE %s +FLAGS (\Seen \Flagged)`, uid)
		case n == 2:
			err = k.remove(a, c, uid)
		case n == 3:
			_, err = c.do("UID MOVE %s Archive", uid)
		case n == 4:
			_, err = c.do("UID SEARCH TEXT nothing")
		default:
			err = k.fetch(a, c, uid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// uids lists the selected folder.
func (c *imap) uids() ([]string, error) {
	all, err := c.do("UID SEARCH ALL")
	if err != nil {
		return nil, err
	}
	for _, line := range all {
		if rest, ok := strings.CutPrefix(line, "* SEARCH"); ok {
			return strings.Fields(rest), nil
		}
	}
	return nil, fmt.Errorf("SEARCH said %q", all)
}

// store appends a message, which works for locked users too.
func (k *soak) store(a *account, c *imap) error {
	id, text := k.message(500 + rand.IntN(9000))
	a.mu.Lock()
	a.mail[id] = false // until it is acknowledged it may be there or not
	a.mu.Unlock()
	if err := c.appendMessage("INBOX", text); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mail[id] = true
	k.count("appended")
	return nil
}

// fetch reads a message: what comes is a whole message of this user.
func (k *soak) fetch(a *account, c *imap, uid string) error {
	_, err := k.read(a, c, uid)
	return err
}

func (k *soak) read(a *account, c *imap, uid string) (id string, err error) {
	all, err := c.do("UID FETCH %s BODY.PEEK[]", uid)
	if err != nil {
		return "", err
	}
	id, ok := whole(strings.TrimSuffix(between(strings.Join(all, "\n")), ")"))
	if !ok {
		k.Errorf("%s, UID %s: not a whole message: %.300q", a.name, uid, all)
		return "", nil
	}
	a.mu.Lock()
	_, known := a.mail[id]
	a.mu.Unlock()
	if !known {
		k.Errorf("%s, UID %s: %s was never sent to this user, or is deleted", a.name, uid, id)
	}
	k.count("fetched")
	return id, nil
}

// between is the literal of a FETCH.
func between(text string) string {
	m := regexp.MustCompile(`\{(\d+)\}\r\n`).FindStringSubmatchIndex(text)
	if m == nil {
		return ""
	}
	var n int
	if _, err := fmt.Sscan(text[m[2]:m[3]], &n); err != nil || m[1]+n > len(text) {
		return ""
	}
	return text[m[1] : m[1]+n]
}

// remove deletes a message whose name is known.
func (k *soak) remove(a *account, c *imap, uid string) error {
	id, err := k.read(a, c, uid)
	if err != nil || id == "" {
		return err
	}
	a.mu.Lock()
	a.mail[id], a.deleting[id] = false, true
	a.mu.Unlock()
	if _, err := c.do(`UID STORE %s +FLAGS.SILENT (\Deleted)`, uid); err != nil {
		return err
	}
	if _, err := c.do("UID EXPUNGE %s", uid); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mail, id)
	a.removed[id] = true
	k.count("deleted")
	return nil
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

// judgeMail unlocks everybody and reads every file: each acknowledged message is there once, and nothing else.
func (k *soak) judgeMail() {
	total := 0
	for _, a := range k.accounts {
		harness.Eventually(k, patience, "it is the turn of "+a.name, func() bool {
			done, err := k.unlock(a)
			must(k, err)
			return done
		})
		seen := map[string]int{}
		for _, dir := range []string{"new", "cur", ".Archive/new", ".Archive/cur"} {
			files, err := filepath.Glob(filepath.Join(k.s.View, a.name, dir, "*"))
			must(k, err)
			for _, path := range files {
				b, err := os.ReadFile(path)
				id, ok := whole(string(b))
				if err != nil || !ok {
					k.Errorf("%s: %v, not a whole message: %.200q", path, err, b)
					continue
				}
				seen[id]++
			}
		}
		for id, n := range seen {
			if _, known := a.mail[id]; n != 1 || !known {
				k.Errorf("%s: %s is there %d times, known %v, deleted before %v", a.name, id, n, known, a.removed[id])
			}
		}
		for id, acknowledged := range a.mail {
			if acknowledged && seen[id] == 0 {
				k.Errorf("%s: %s is lost", a.name, id)
			}
		}
		total += len(seen)
		must(k, k.lock(a))
	}
	k.Logf("%d messages are there", total)
}

// judgeEnd has the daemon say what all its goroutines do: nothing of all the work may go on.
func (k *soak) judgeEnd() {
	must(k, syscall.Kill(k.s.PID(), syscall.SIGABRT))
	harness.Eventually(k, patience, "the daemon has ended", func() bool { return !k.s.Running() })
	b, err := os.ReadFile(filepath.Join(filepath.Dir(k.s.Config), "log"))
	must(k, err)
	n := bytes.Count(b, []byte("\ngoroutine "))
	k.Logf("%d goroutines at the end", n)
	if n == 0 || n > 120 {
		k.Errorf("%d goroutines at the end: %.6000s", n, b[max(0, bytes.Index(b, []byte("\ngoroutine "))):])
	}
	k.s.Announce("detached a view that a dead daemon had left")
	k.s.Serve(k)
}
