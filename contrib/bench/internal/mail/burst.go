package mail

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
)

const sender = "sender@example.net"

// Burst delivers so many messages of 4 to 50 KiB to all users in turn, over several connections at once, and returns
// what it took. All must be accepted.
func (s *Server) Burst(messages, connections int, seed uint64) (measure.Sample, error) {
	return s.timed(connections, func(worker int, took func(time.Duration)) error {
		conn, err := net.Dial("tcp", s.lmtp)
		if err != nil {
			return err
		}
		c := smtp.NewClientLMTP(conn)
		defer c.Close()
		texts := rand.New(rand.NewPCG(seed, uint64(worker)))
		for i := worker; i < messages; i += connections {
			began := time.Now()
			if err := deliver(c, s.users[i%len(s.users)], message(texts, i)); err != nil {
				return err
			}
			took(time.Since(began))
		}
		return c.Quit()
	})
}

func deliver(c *smtp.Client, user, text string) error {
	if err := errors.Join(c.Mail(sender, nil), c.Rcpt(user, nil)); err != nil {
		return err
	}
	data, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := data.Write([]byte(text)); err != nil {
		return err
	}
	_, err = data.CloseWithLMTPResponse()
	return err
}

// message returns a mail of 4 to 50 KiB with a text that does not compress well.
func message(r *rand.Rand, number int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: Sender <%s>\r\nTo: list@example.org\r\nSubject: message %d\r\n"+
		"Date: Mon, 2 Jan 2023 10:00:00 +0100\r\nMessage-ID: <%d.%x@example.net>\r\n\r\n", sender, number, number, r.Uint64())
	for size := 4<<10 + r.IntN(46<<10); b.Len() < size; {
		fmt.Fprintf(&b, "%016x %016x %016x %016x\r\n", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())
	}
	return b.String()
}
