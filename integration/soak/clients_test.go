package soak

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
)

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
