package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Anvil asks Dovecot's anvil process for all sessions, as "doveadm who" does. Deliveries by LMTP do not count. It speaks
// the protocols of Dovecot 2.3 and 2.4 and finds out which of them is spoken.
type Anvil struct {
	Path string // of the socket, usually /run/dovecot/anvil

	version atomic.Int32 // of the protocol that was spoken last; 0: not known
}

// anvilTime is how long anvil may take to answer.
const anvilTime = 5 * time.Second

// Greetings of the two protocols: 2.3 says nothing first, 2.4 sends its version.
const (
	anvilAsk1 = "VERSION\tanvil\t1\t0\nCONNECT-DUMP\n"
	anvilAsk2 = "VERSION\tanvil-client\t2\t0\n\nCONNECT-DUMP\n"
	anvilSays = "VERSION\tanvil-server\t2\t"
)

// errAnvil says that the other side speaks another protocol.
var errAnvil = errors.New("it speaks another protocol")

// Name implements Source.
func (a *Anvil) Name() string { return "Dovecot's anvil at " + a.Path }

// Decides implements Source: who is not in anvil's list has no session.
func (a *Anvil) Decides(account.User) bool { return true }

// InUse implements Source. A socket that is not there or that nobody listens on means that Dovecot does not run.
func (a *Anvil) InUse(ctx context.Context, _ []account.User) (map[account.User]string, error) {
	ctx, cancel := context.WithTimeout(ctx, anvilTime)
	defer cancel()
	order := []int32{1, 2}
	if a.version.Load() == 2 {
		order = []int32{2, 1}
	}
	var errs []error
	for _, version := range order {
		users, err := a.dump(ctx, version)
		switch {
		case err == nil:
			a.version.Store(version)
			return users, nil
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
			return nil, nil
		}
		errs = append(errs, fmt.Errorf("protocol %d: %w", version, err))
		if !errors.Is(err, errAnvil) {
			break
		}
	}
	return nil, fmt.Errorf("cannot list the sessions of Dovecot: %w (the daemon needs access to the socket, see anvil in mailcryptfs.toml(5))",
		errors.Join(errs...))
}

// dump has one conversation in one version of the protocol.
func (a *Anvil) dump(ctx context.Context, version int32) (map[account.User]string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", a.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	ask := anvilAsk1
	if version == 2 {
		ask = anvilAsk2
	}
	if _, err := conn.Write([]byte(ask)); err != nil && !errors.Is(err, syscall.EPIPE) {
		return nil, err
	}
	lines := bufio.NewScanner(conn)
	next := func() (string, bool) {
		ok := lines.Scan()
		return lines.Text(), ok
	}
	if version == 2 {
		if greeting, ok := next(); !ok || !strings.HasPrefix(greeting, anvilSays) {
			return nil, errAnvil
		}
		if _, ok := next(); !ok { // names of further fields
			return nil, errAnvil
		}
	}
	users := make(map[account.User]string)
	for first := true; ; first = false {
		line, ok := next()
		switch {
		case !ok && first, ok && first && strings.HasPrefix(line, "VERSION\t"):
			return nil, fmt.Errorf("%w: %w", errAnvil, errors.Join(lines.Err(), ctx.Err()))
		case !ok:
			// Half a list says too little: an empty line ends a whole one.
			return nil, fmt.Errorf("the list broke off: %w", errors.Join(lines.Err(), ctx.Err()))
		case line == "":
			return users, nil
		}
		s, ok := parseSession(line, version)
		if !ok {
			return nil, fmt.Errorf("cannot understand the line %q", line)
		}
		if s.service == "lmtp" || s.user == "" {
			continue
		}
		users[account.User(s.user)] = fmt.Sprintf("%s session of process %s (Dovecot)", s.service, s.pid)
	}
}

// anvilSession is one line of the list.
type anvilSession struct{ user, service, pid string }

// parseSession reads a line: of version 1 "service/ip/user", "service//user" or "service/user", then process id and
// number; of version 2 process id, user, service, and more.
func parseSession(line string, version int32) (anvilSession, bool) {
	fields := strings.Split(line, "\t")
	for i := range fields {
		fields[i] = tabUnescape.Replace(fields[i])
	}
	if version == 2 {
		if len(fields) < 6 {
			return anvilSession{}, false
		}
		return anvilSession{user: fields[1], service: fields[2], pid: fields[0]}, true
	}
	service, rest, ok := strings.Cut(fields[0], "/")
	if !ok || len(fields) < 3 {
		return anvilSession{}, false
	}
	// A user name may hold a "/" itself.
	if ip, user, ok := strings.Cut(rest, "/"); ok {
		if _, err := netip.ParseAddr(ip); err == nil || ip == "" {
			rest = user
		}
	}
	return anvilSession{user: rest, service: service, pid: fields[1]}, true
}

// tabUnescape undoes what Dovecot does to tabs and the like in fields.
var tabUnescape = strings.NewReplacer("\x011", "\x01", "\x01t", "\t", "\x01n", "\n", "\x01r", "\r", "\x010", "\x00")
