// Package posix checks that a mounted view behaves as a filesystem that mail servers can rely on. Each case runs on plain
// ext4 first, which proves the case, then in the view: in a folder of class meta, in a user's private folder while the
// user is unlocked, and in the private folder of a locked user, whose new mail goes under a delivery key.
package posix
