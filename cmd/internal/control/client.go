package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Errors of a conversation that did not take place.
var (
	// ErrNoDaemon says that nothing answers on the socket.
	ErrNoDaemon = errors.New("no daemon answers")
	// ErrNotPermitted says that this user may not use the socket.
	ErrNotPermitted = errors.New("only root may control the daemon")
)

// Client speaks to the daemon. It is safe for concurrent use. Every method returns ErrNoDaemon or ErrNotPermitted
// (wrapped) if there was no conversation, and *Error for what the daemon itself reported.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client for the socket at path. It connects with each call.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true},
		Timeout:   requestTime,
	}}
}

// Enroll gives the user an identity. It wipes the password.
func (c *Client) Enroll(ctx context.Context, user string, password []byte) error {
	_, err := c.call(ctx, pathEnroll, request{User: []byte(user), Password: password})
	return err
}

// Unlock opens the user's identity. It wipes the password.
func (c *Client) Unlock(ctx context.Context, user string, password []byte) error {
	_, err := c.call(ctx, pathUnlock, request{User: []byte(user), Password: password})
	return err
}

// Lock locks the user, and reports whether that changed anything.
func (c *Client) Lock(ctx context.Context, user string) (changed bool, err error) {
	a, err := c.call(ctx, pathLock, request{User: []byte(user)})
	return a.Changed, err
}

// Status describes one user.
func (c *Client) Status(ctx context.Context, user string) (UserStatus, error) {
	a, err := c.call(ctx, pathUser, request{User: []byte(user)})
	if err != nil {
		return UserStatus{}, err
	}
	if a.User == nil {
		return UserStatus{}, errAnswer
	}
	return *a.User, nil
}

// Who describes every unlocked user, in the order of their names.
func (c *Client) Who(ctx context.Context) ([]UserStatus, error) {
	a, err := c.call(ctx, pathWho, request{})
	return a.Users, err
}

// Daemon describes the daemon.
func (c *Client) Daemon(ctx context.Context) (DaemonStatus, error) {
	a, err := c.call(ctx, pathDaemon, request{})
	if err != nil {
		return DaemonStatus{}, err
	}
	if a.Daemon == nil {
		return DaemonStatus{}, errAnswer
	}
	return *a.Daemon, nil
}

var errAnswer = errors.New("the daemon gave an answer that this program does not understand: are both of one version?")

// call sends one request and wipes its secrets, in every form that they had here; those of the answer are the caller's.
func (c *Client) call(ctx context.Context, path string, req request) (answer, error) {
	defer req.wipe()
	text, err := json.Marshal(req)
	if err != nil {
		return answer{}, err
	}
	defer secret.Wipe(text)
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mailcryptfs"+path, bytes.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	hr.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(hr)
	if err != nil {
		return answer{}, c.transportError(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	defer secret.Wipe(body)
	if err != nil {
		return answer{}, fmt.Errorf("the daemon's answer broke off: %w", err)
	}
	var a answer
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, &a) != nil {
		return answer{}, errAnswer
	}
	if a.Error != nil {
		return answer{}, a.Error
	}
	return a, nil
}

func (c *Client) transportError(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w on %s", ErrNoDaemon, c.path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (%s)", ErrNotPermitted, c.path)
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{CodeBusy, "the daemon did not answer in time"}
	default:
		return fmt.Errorf("cannot talk to the daemon on %s: %w", c.path, err)
	}
}
