// Package powercut cuts the power of a machine on paper. The store lies on a real filesystem (each of ext4, XFS and btrfs
// that the kernel has) on a disk that keeps a record of every write and every flush, while a mail server's work goes on
// (package writers). Afterwards the disk is built again as it could have been at chosen moments: with all writes up to
// then, or with those dropped, reordered or torn that no flush had made safe. Each such disk is mounted, checked by the
// filesystem's own tool, and served by a new daemon, which must show every acknowledged byte and open for every
// acknowledged key, and verify must find no damage.
//
// The disk is a file that the test itself serves through FUSE, beneath a loop device with direct I/O: a flush of the
// device reaches it as an fsync.
//
// POWERCUT_POINTS sets the number of moments for each filesystem; the short form, which every run of the tests does, has
// 26 for ext4 and fewer for the others.
package powercut
