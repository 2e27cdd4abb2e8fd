package soak

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
)

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
