// Package cyrus tests the view beneath Debian's unmodified Cyrus 3.6.
package cyrus
