// Package soak lets a real Dovecot run over a view for a while, with clients, deliveries, and users who are locked and unlocked
// all the time, and looks whether anything is lost, doubled, left behind or growing. Give it an hour with:
//
//	HARNESS_RACE=1 go test -timeout 2h ./integration/soak -soak.time 1h
package soak
