package pattern

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const mixMessages = 60 // messages in the folder when a batch begins

// mix is a folder in use by an IMAP server. Frequencies are those of clients that look more often than they change; the
// calls of each command are those that Dovecot was seen making. Nothing is synced: waiting for the disk would hide what
// the filesystem costs, and is measured by other patterns.
func mix() Pattern {
	return Pattern{
		Name: "imap-mix", Doc: "commands of IMAP sessions on one folder: 40 % fetch, 15 % store, 15 % cached headers, 10 % check, " +
			"8 % append, 4 % copy, 4 % expunge, 4 % index rewrite; no sync",
		MinOps: 100, MaxOps: 5000, Workers: Parallel(), Goals: map[int]float64{1: 0.12, 16: 0.11}, Start: startMix,
	}
}

// session is one IMAP session in a folder.
type session struct {
	b          *Box
	folder     string
	messages   []mail
	next       int // number of the next message
	copies     int
	log, cache int // descriptors held open, as Dovecot does
	commands   []command
}

type mail struct {
	base string // path without the info part
	info string // ":2," and flags
	size int
}

type command struct {
	weight int
	do     func() error
}

func startMix(b *Box, _ int) (*Run, error) {
	s := &session{b: b, folder: ".Mix", log: -1, cache: -1}
	for _, name := range []string{s.folder, ".MixCopies"} {
		if err := b.folder(name); err != nil {
			return nil, err
		}
	}
	for range mixMessages {
		if err := s.save(); err != nil {
			return nil, err
		}
	}
	var err error
	for _, name := range []string{"dovecot.index.log", "dovecot.index.cache", "dovecot-uidlist", "dovecot.index"} {
		err = errors.Join(err, create(s.path(name), b.message(16<<10), false))
	}
	if err != nil {
		return nil, err
	}
	if s.log, err = open(s.path("dovecot.index.log"), unix.O_RDWR|unix.O_APPEND); err != nil {
		return nil, err
	}
	if s.cache, err = open(s.path("dovecot.index.cache"), unix.O_RDWR); err != nil {
		return nil, err
	}
	s.commands = []command{
		{40, s.fetch}, {15, s.store}, {15, s.headers}, {10, s.check}, {8, s.append}, {4, s.copy}, {4, s.expunge}, {4, s.index},
	}
	return &Run{func(int) error { return s.command() }, s.finish}, nil
}

func (s *session) path(parts ...string) string {
	return s.b.path(append([]string{s.folder}, parts...)...)
}

// command does what Dovecot does before each command, then one at random.
func (s *session) command() error {
	var held unix.Stat_t
	if err := unix.Fstat(s.log, &held); err != nil {
		return err
	}
	st, err := stat(s.path("dovecot.index.log"))
	if err != nil {
		return err
	}
	if st.Ino != held.Ino {
		return errors.New("the index log has another inode number by path than by descriptor")
	}
	for _, dir := range []string{"new", "cur"} {
		if _, err := stat(s.path(dir)); err != nil {
			return err
		}
	}
	at := s.b.rnd.IntN(100)
	for _, c := range s.commands {
		if at -= c.weight; at < 0 {
			return c.do()
		}
	}
	return nil
}

func (s *session) any() *mail { return &s.messages[s.b.rnd.IntN(len(s.messages))] }

func (s *session) fetch() error {
	m := s.any()
	fd, err := open(m.base+m.info, unix.O_RDONLY)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return closing(fd, err)
	}
	n, err := unix.Read(fd, s.b.buf)
	if err == nil && (n != m.size || st.Size != int64(m.size)) {
		err = io.ErrUnexpectedEOF
	}
	return closing(fd, named("read", m.base, err))
}

func (s *session) store() error {
	if err := s.logged(96); err != nil {
		return err
	}
	m := s.any()
	info := ":2,S"
	if m.info == info {
		info = ":2,"
	}
	err := rename(m.base+m.info, m.base+info)
	m.info = info
	return err
}

// headers reads a record of the cache.
func (s *session) headers() error {
	return locked(s.cache, unix.F_RDLCK, func() error {
		_, err := unix.Pread(s.cache, s.b.buf[:2048], int64(s.b.rnd.IntN(12<<10)))
		return err
	})
}

func (s *session) check() error {
	if _, err := stat(s.path("dovecot-uidlist")); err != nil {
		return err
	}
	_, err := stat(s.path("tmp"))
	return err
}

func (s *session) append() error {
	lock := s.path("dovecot-uidlist.lock")
	if err := create(lock, []byte("4711:mx.example.org"), false); err != nil {
		return err
	}
	if err := s.save(); err != nil {
		return err
	}
	fd, err := open(s.path("dovecot-uidlist"), unix.O_RDWR|unix.O_APPEND)
	if err != nil {
		return err
	}
	if err := closing(fd, write(fd, s.b.message(80))); err != nil {
		return err
	}
	if err := s.logged(160); err != nil {
		return err
	}
	err = locked(s.cache, unix.F_WRLCK, func() error {
		_, err := unix.Pwrite(s.cache, s.b.message(400), int64(s.b.rnd.IntN(15<<10)))
		return err
	})
	if err != nil {
		return err
	}
	return unlink(lock)
}

func (s *session) copy() error {
	m := s.any()
	s.copies++
	return link(m.base+m.info, s.b.path(".MixCopies", "cur", messageName(s.copies, m.size)+":2,"))
}

func (s *session) expunge() error {
	if len(s.messages) <= mixMessages/2 {
		return s.check()
	}
	if err := s.logged(64); err != nil {
		return err
	}
	at := s.b.rnd.IntN(len(s.messages))
	m := s.messages[at]
	s.messages[at] = s.messages[len(s.messages)-1]
	s.messages = s.messages[:len(s.messages)-1]
	return unlink(m.base + m.info)
}

func (s *session) index() error {
	temporary := s.path("dovecot.index.tmp")
	if err := create(temporary, s.b.message(4096), false); err != nil {
		return err
	}
	return rename(temporary, s.path("dovecot.index"))
}

// save stores one message by way of tmp/.
func (s *session) save() error {
	size := s.b.anySize()
	name := messageName(s.next, size)
	s.next++
	if err := create(s.path("tmp", name), s.b.message(size), false); err != nil {
		return err
	}
	m := mail{base: s.path("cur", name), info: ":2,", size: size}
	s.messages = append(s.messages, m)
	return rename(s.path("tmp", name), m.base+m.info)
}

// logged appends a record to the index log, under its lock.
func (s *session) logged(size int) error {
	return locked(s.log, unix.F_WRLCK, func() error { return write(s.log, s.b.message(size)) })
}

func locked(fd int, kind int16, do func() error) error {
	lock := unix.Flock_t{Type: kind}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &lock); err != nil {
		return fmt.Errorf("cannot lock: %w", err)
	}
	err := do()
	lock.Type = unix.F_UNLCK
	return errors.Join(err, unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock))
}

func (s *session) finish() error {
	err := errors.Join(unix.Close(s.log), unix.Close(s.cache))
	for _, m := range s.messages {
		if err == nil {
			err = expectSize(m.base+m.info, int64(m.size))
		}
	}
	err = errors.Join(err, clear(s.path("cur"), len(s.messages)), clear(s.b.path(".MixCopies", "cur"), s.copies))
	for _, name := range []string{"dovecot.index.log", "dovecot.index.cache", "dovecot-uidlist", "dovecot.index"} {
		err = errors.Join(err, os.Remove(s.path(name)))
	}
	return err
}
