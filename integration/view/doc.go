// Package view checks what a mounted view promises beyond an ordinary filesystem: whose content can be opened and when,
// what the store shows, how mail arrives for a locked user, and what is left after crashes and damage. It sees the product
// from outside alone: binary, view, store, keyring directory, log.
package view
