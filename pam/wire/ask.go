package wire

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Socket is where the daemon listens unless configured otherwise (P1).
const Socket = "/run/mailcryptfs/pam.sock"

// Ask sends one request to the daemon that listens at socket and returns its answer. It does in Go what the PAM module
// does in C, for the command line and for tests; but it does not ask who the daemon is: the caller vouches for the
// path. Connecting, sending and waiting end with ctx. The frame is wiped; the passwords of r are the caller's. Errors
// are those of the connection, ErrMalformed or ErrVersion; an answer that is not OK is no error.
func Ask(ctx context.Context, socket string, r Request) (Answer, error) {
	frame := make([]byte, 0, MaxRequest)
	defer func() { clear(frame[:cap(frame)]) }()
	frame, err := r.Append(frame)
	if err != nil {
		return Answer{}, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	// The daemon may answer before it has read everything (P4): a failed write says less than the answer.
	_, writeErr := conn.Write(frame)
	answer, err := ReadAnswer(conn)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return Answer{}, fmt.Errorf("no answer from %s: %w", socket, context.Cause(ctx))
	case writeErr != nil:
		return Answer{}, writeErr
	}
	return Answer{}, fmt.Errorf("no answer from %s: %w", socket, err)
}
