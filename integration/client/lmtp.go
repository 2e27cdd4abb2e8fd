package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Transaction is an LMTP session (RFC 2033) whose recipients have been named.
type Transaction struct {
	Answers []string // for each recipient: "250", what the server says instead, or Gone
	c       *textproto.Conn
}

// Gone is how an answer begins that the server did not give: it closed the connection.
const Gone = "the connection is gone: "

// Begin names sender and recipients on a connection to an LMTP server.
func Begin(t testing.TB, conn net.Conn, users ...string) *Transaction {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	x := &Transaction{c: textproto.NewConn(conn)}
	t.Cleanup(func() { _ = x.c.Close() })
	greeting := x.say(t, 220, "")
	hello := x.say(t, 250, "LHLO client.example.org")
	from := x.say(t, 250, "MAIL FROM:<sender@example.net>")
	if greeting != "220" || hello != "250" || from != "250" {
		t.Fatalf("LMTP: %s, %s, %s", greeting, hello, from)
	}
	for _, u := range users {
		x.Answers = append(x.Answers, x.say(t, 250, "RCPT TO:<%s>", u))
	}
	return x
}

// say sends a line, if there is one, and returns the code of the answer, with the text if it is not the code wanted.
func (x *Transaction) say(t testing.TB, want int, format string, args ...any) string {
	t.Helper()
	var err error
	if format != "" {
		err = x.c.PrintfLine(format, args...)
	}
	code, text := 0, ""
	if err == nil {
		code, text, err = x.c.ReadResponse(0)
	}
	if err != nil && code == 0 {
		return Gone + err.Error()
	}
	if code != want {
		return fmt.Sprintf("%d %s", code, text)
	}
	return strconv.Itoa(code)
}

// Write sends a part of a message, which the server has asked for by then; a line break ends it. The rest is for Data.
func (x *Transaction) Write(t testing.TB, part string) {
	t.Helper()
	if a := x.say(t, 354, "DATA"); a != "354" {
		t.Fatalf("DATA: %s", a)
	}
	_, err := io.WriteString(x.c.W, strings.ReplaceAll(part, "\n", "\r\n"))
	if err := errors.Join(err, x.c.W.Flush()); err != nil {
		t.Fatal(err)
	}
}

// Hangup ends the session without a word.
func (x *Transaction) Hangup() { _ = x.c.Close() }

// Data sends the message, whose lines end with \n, and returns the answer for each recipient.
func (x *Transaction) Data(t testing.TB, message string) []string {
	t.Helper()
	defer x.Hangup()
	if !slices.Contains(x.Answers, "250") {
		return x.Answers
	}
	if a := x.say(t, 354, "DATA"); a != "354" {
		t.Fatalf("DATA: %s", a)
	}
	w := x.c.DotWriter()
	_, err := io.WriteString(w, message)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for i, a := range x.Answers {
		if a == "250" {
			x.Answers[i] = x.say(t, 250, "")
		}
	}
	return x.Answers
}

// Message is a mail that can be recognised by its subject; the text has so many lines more.
func Message(subject string, lines int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "From: Sender <sender@example.net>\nTo: list@example.org\nSubject: %s\nDate: Mon, 2 Jan 2023 10:00:00 +0100\n"+
		"Message-ID: <%s@example.net>\nContent-Type: text/plain; charset=utf-8\n\nThis is the text of %s.\n",
		subject, strings.ReplaceAll(subject, " ", "-"), subject)
	for i := range lines {
		fmt.Fprintf(&text, "line %d of %s: äöü 0123456789 abcdefghijklmnopqrstuvwxyz\n", i, subject)
	}
	return text.String()
}

// CRLF is a text with the line ends of protocols.
func CRLF(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
