// Package doctor runs the doctor of the binary on a real site, and beside a real Dovecot whose configuration is wrong.
package doctor
