// Package supervise tests what keeps the view up: the watchdog, restarts after a crash, and the lines by which the log tells of
// failures. The tests do what systemd does with contrib/systemd/mailcryptfs.service, by the notification socket.
package supervise
