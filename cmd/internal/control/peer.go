package control

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
)

type peerKey struct{}

// PeerOf says who asked for what runs under ctx, in one line for the log: process, user, and the user who logged in, which
// the kernel keeps across sudo(8) (audit login uid, proc(5)). Empty for anything but a request.
func PeerOf(ctx context.Context) string {
	p, _ := ctx.Value(peerKey{}).(string)
	return p
}

// WithPeer lets PeerOf find the process pid of user uid.
func WithPeer(ctx context.Context, uid uint32, pid int32) context.Context {
	text := fmt.Sprintf("uid %d, pid %d", uid, pid)
	if login, ok := loginUID(pid); ok {
		text += fmt.Sprintf(", logged in as uid %d", login)
	}
	return context.WithValue(ctx, peerKey{}, text)
}

// OwnPeer lets PeerOf find this process: for what a verb does without the daemon.
func OwnPeer(ctx context.Context) context.Context {
	return WithPeer(ctx, uint32(os.Geteuid()), int32(os.Getpid()))
}

// withPeer is the context of a request, with its peer.
func withPeer(r *http.Request) context.Context {
	if conn, ok := r.Context().Value(connKey{}).(*wipingConn); ok {
		if cred, err := peer(conn.UnixConn); err == nil {
			return WithPeer(r.Context(), cred.Uid, cred.Pid)
		}
	}
	return r.Context()
}

// loginUID returns as whom somebody logged in to start the process; false for what no login started.
func loginUID(pid int32) (uint32, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid))
	if err != nil {
		return 0, false
	}
	uid, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 32)
	return uint32(uid), err == nil && uid != 1<<32-1
}
