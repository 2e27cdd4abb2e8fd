package mail

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/mailcryptfs/mailcryptfs/contrib/bench/internal/measure"
)

// Load lets so many clients, each with a mailbox of its own, work for a while, and returns how many commands were
// answered. Each logs in, selects the inbox, and fetches, flags, adds and removes messages before it logs out again.
func (s *Server) Load(clients int, d time.Duration, seed uint64) (measure.Sample, error) {
	end := time.Now().Add(d)
	return s.timed(clients, func(worker int, took func(time.Duration)) error {
		r := rand.New(rand.NewPCG(seed, uint64(worker)))
		for time.Now().Before(end) {
			if err := s.session(s.users[worker%len(s.users)], r, took); err != nil {
				return err
			}
		}
		return nil
	})
}

// session is one session of one client.
type session struct {
	c    *imapclient.Client
	r    *rand.Rand
	took func(time.Duration)
	size uint32 // messages in the inbox
	err  error
}

func (s *Server) session(user string, r *rand.Rand, took func(time.Duration)) error {
	c, err := imapclient.DialInsecure(s.imap, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	x := &session{c: c, r: r, took: took}
	x.do("LOGIN", func() error { return c.Login(user, "benchmark").Wait() })
	x.do("SELECT", func() error {
		data, err := c.Select("INBOX", nil).Wait()
		if err == nil {
			x.size = data.NumMessages
		}
		return err
	})
	x.do("FETCH flags", func() error { return x.fetch(x.all(), &imap.FetchOptions{Flags: true, UID: true}) })
	for range 5 {
		x.read()
	}
	x.change()
	x.do("IDLE", func() error {
		idle, err := c.Idle()
		if err != nil {
			return err
		}
		if err := idle.Close(); err != nil {
			return err
		}
		return idle.Wait()
	})
	x.do("LOGOUT", func() error { return c.Logout().Wait() })
	return x.err
}

// do runs one command and counts it. After an error nothing more is done.
func (x *session) do(what string, f func() error) {
	if x.err != nil {
		return
	}
	began := time.Now()
	if err := f(); err != nil {
		x.err = fmt.Errorf("%s: %w", what, err)
		return
	}
	x.took(time.Since(began))
}

// read lists a page of messages and reads some of them.
func (x *session) read() {
	x.do("FETCH envelopes", func() error {
		page := imap.SeqSet{}
		first := max(1, x.size-min(x.size, 20))
		page.AddRange(first, max(first, x.size))
		return x.fetch(page, &imap.FetchOptions{Envelope: true, RFC822Size: true, InternalDate: true})
	})
	for range 3 {
		x.do("FETCH body", func() error {
			return x.fetch(x.some(), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{}}})
		})
	}
}

// change flags, adds and removes a message, so that the mailbox keeps its size.
func (x *session) change() {
	store := func(flag imap.Flag) func() error {
		return func() error {
			return x.c.Store(x.some(), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{flag}}, nil).Close()
		}
	}
	x.do("STORE", store(imap.FlagFlagged))
	x.do("APPEND", func() error {
		text := message(x.r, x.r.IntN(1000))
		cmd := x.c.Append("INBOX", int64(len(text)), nil)
		if _, err := cmd.Write([]byte(text)); err != nil {
			return err
		}
		if err := cmd.Close(); err != nil {
			return err
		}
		_, err := cmd.Wait()
		return err
	})
	x.do("STORE deleted", store(imap.FlagDeleted))
	x.do("EXPUNGE", func() error { return x.c.Expunge().Close() })
}

func (x *session) fetch(set imap.NumSet, o *imap.FetchOptions) error {
	got, err := x.c.Fetch(set, o).Collect()
	if err == nil && len(got) == 0 {
		err = fmt.Errorf("no message of %v in a mailbox of %d", set, x.size)
	}
	return err
}

func (x *session) all() imap.NumSet {
	set := imap.SeqSet{}
	set.AddRange(1, 0) // 1:*
	return set
}

// some returns one message, by a number that holds even if others were removed meanwhile.
func (x *session) some() imap.NumSet { return imap.SeqSetNum(1 + x.r.Uint32N(max(1, x.size*9/10))) }
