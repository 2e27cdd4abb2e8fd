package client

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// PutSieve stores a Sieve script for a user by ManageSieve (RFC 5804) and makes it the active one, with the name and
// password of somebody who may act for the user.
func PutSieve(t testing.TB, conn net.Conn, user, name, password, script string) {
	t.Helper()
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	answer := func(command string) {
		t.Helper()
		for {
			line, err := in.ReadString('\n')
			if err != nil || strings.HasPrefix(line, "NO") || strings.HasPrefix(line, "BYE") {
				t.Fatalf("ManageSieve: %q: %q %v", command, line, err)
			}
			if strings.HasPrefix(line, "OK") {
				return
			}
		}
	}
	answer("")
	token := base64.StdEncoding.EncodeToString([]byte(user + "\x00" + name + "\x00" + password))
	for _, command := range []string{
		fmt.Sprintf("AUTHENTICATE \"PLAIN\" {%d+}\r\n%s", len(token), token),
		fmt.Sprintf("PUTSCRIPT \"main\" {%d+}\r\n%s", len(script), script),
		"SETACTIVE \"main\"", "LOGOUT",
	} {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			t.Fatal(err)
		}
		answer(command)
	}
}
