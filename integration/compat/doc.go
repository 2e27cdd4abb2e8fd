// Package compat reads the committed test vectors, and files that the product has just written, with a second reader: a
// small Python program that was written from fs/FORMAT.md alone. Where the two disagree, the page is wrong or unclear, or
// one of the readers is. The program also serves in an emergency: it needs nothing of ours but the page.
package compat
