package cyrus

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/integration/client"
)

// TestLockStorm locks and unlocks a user again and again while sessions read, search, copy and flag messages and others
// deliver more. Whatever a session gets, no process of Cyrus' may be ended by a signal, and nothing may be missing
// afterwards.
func TestLockStorm(t *testing.T) {
	t.Parallel()
	forLayouts(t, testLockStorm, legacy, uuid)
}

func testLockStorm(t *testing.T, l layout) {
	const user, sessions, deliveries, lasts = "alice", 3, 30, 5 * time.Second
	s := newSite(t, options{layout: l}, user)
	s.Unlock(t, user)
	for i := range 10 {
		s.deliver(t, client.Message(fmt.Sprintf("plain %d", i), 200*i), user)
	}
	s.enter(t, user).OK(t, "CREATE INBOX.Copies")
	stop := make(chan struct{})
	var all, others sync.WaitGroup
	deferred := 0
	reads := make([]int, sessions)
	for i := range sessions {
		c := s.enter(t, user)
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, command := range []string{"SELECT INBOX", "FETCH 1:* (BODY.PEEK[] ENVELOPE)", `SEARCH BODY "text of"`, "COPY 1 INBOX.Copies", `STORE 1:* +FLAGS (key)`} {
					answer, err := c.Do(command)
					if err != nil {
						t.Errorf("session %d: %s: %v", i, command, err)
						return
					}
					if strings.Contains(strings.Join(answer, ""), "text of plain") {
						reads[i]++
					}
				}
			}
		})
	}
	others.Go(func() {
		for i := range deliveries {
			message := client.Message(fmt.Sprintf("later %d", i), 100*i)
			for {
				answer := s.begin(t, user).Data(t, message)[0]
				if answer == "250" {
					break
				}
				// A lock between the steps of a delivery defers it; the mail system comes again.
				if deferred++; !strings.HasPrefix(answer, "451") || deferred > deliveries {
					t.Errorf("delivery %d: %s", i, answer)
					break
				}
			}
		}
	})
	end := time.Now().Add(lasts)
	for time.Now().Before(end) {
		s.Lock(t, user)
		s.Unlock(t, user)
	}
	others.Wait()
	close(stop)
	all.Wait()
	t.Logf("read with success: %v; deferred deliveries: %d", reads, deferred)
	n := 0
	for place, text := range s.bodies(t, user) {
		if strings.HasPrefix(place, "INBOX/") {
			n++
		}
		if subject, whole := client.Recognise(text); !whole {
			t.Errorf("%s: %q is damaged: %.500q", place, subject, text)
		}
	}
	if n != 10+deliveries {
		t.Errorf("%d messages, want %d", n, 10+deliveries)
	}
	if out, ok := s.tool(t, "reconstruct", "-r", "-n", "-G", "user."+user); !ok || strings.Contains(out, "mismatch") || strings.Contains(out, "missing") {
		t.Errorf("reconstruct: %s", out)
	}
	s.judgeLog(t, nil)
}
