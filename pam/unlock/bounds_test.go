package unlock

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailcryptfs/mailcryptfs/pam/wire"
)

func TestConnectionsAreBounded(t *testing.T) {
	entered, leave := make(chan struct{}, 3), make(chan struct{})
	r := &recorder{reply: func(context.Context) error {
		entered <- struct{}{}
		<-leave
		return nil
	}}
	socket, _, _ := start(t, r, Options{Connections: 2})
	var first sync.WaitGroup
	for range 2 {
		first.Go(func() {
			if a := ask(t, socket, login("alice", "pw")); a.Status != wire.OK {
				t.Errorf("one of the first two: %v", a)
			}
		})
		<-entered
	}
	if a := ask(t, socket, login("bob", strings.Repeat("p", 1024))); a.Status != wire.Busy {
		t.Errorf("the third: %v", a)
	}
	close(leave)
	first.Wait()
	// The pages come back, if only some time after the answers.
	for deadline := time.Now().Add(20 * time.Second); ; {
		a := ask(t, socket, login("bob", "pw"))
		if a.Status == wire.OK {
			break
		}
		if a.Status != wire.Busy || time.Now().After(deadline) {
			t.Fatalf("afterwards: %v", a)
		}
	}
}

func TestWorkIsBounded(t *testing.T) {
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	r := &recorder{reply: func(context.Context) error {
		entered <- struct{}{}
		<-leave
		return nil
	}}
	socket, _, _ := start(t, r, Options{Working: 1, Wait: 50 * time.Millisecond})
	var first sync.WaitGroup
	first.Go(func() { ask(t, socket, login("alice", "pw")) })
	<-entered
	if a := ask(t, socket, login("bob", "pw")); a.Status != wire.Busy {
		t.Errorf("got %v", a)
	}
	close(leave)
	first.Wait()
	if a := ask(t, socket, login("bob", "pw")); a.Status != wire.OK {
		t.Errorf("afterwards: %v", a)
	}
}
