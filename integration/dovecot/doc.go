// Package dovecot tests the view beneath Debian's Dovecot.
package dovecot
