package doctor

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func (h *Host) stat(p string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Lstat(h.path(p), &st)
	return st, err
}

// private judges owner and mode of what must be root's; forbidden are bits that must not be set.
func (h *Host) private(p string, forbidden uint32, why string) []Finding {
	st, err := h.stat(p)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return unknown(p, err)
	}
	var out []Finding
	if st.Uid != 0 {
		out = append(out, found(Fail, fmt.Sprintf("%s belongs to uid %d", p, st.Uid), why, "chown root:root "+p))
	}
	if bad := st.Mode & forbidden; bad != 0 {
		out = append(out, found(Fail, fmt.Sprintf("%s has mode %04o", p, st.Mode&0o7777), why, fmt.Sprintf("chmod %04o %s", st.Mode&0o7777&^forbidden, p)))
	}
	return out
}

func configPermissions(_ context.Context, h *Host) []Finding {
	const why = "whoever changes the configuration can have mail stored in clear"
	return append(h.private(h.Path, 0o022, why), h.private(filepath.Dir(h.Path), 0o022, why)...)
}

// siteSecret looks at the file of the site secret: who may read it, and whether a thief of the disk gets it too.
func siteSecret(_ context.Context, h *Host) []Finding {
	p := h.Config.SiteSecret
	if !filepath.IsAbs(p) {
		return nil // a credential, or typed
	}
	secret, err := h.stat(p)
	if err != nil {
		return []Finding{found(Fail, fmt.Sprintf("the site secret cannot be looked at: %v", err), "without it no mail can be read",
			"restore it: mailcryptfs recover --site-secret, or from its copy")}
	}
	out := h.private(p, 0o077, "it opens the names of all mail, and is half of what opens the mail itself")
	store, err := h.stat(h.Config.Store)
	if err == nil && h.disk(secret.Dev) == h.disk(store.Dev) {
		out = append(out, found(Warn, fmt.Sprintf("the site secret %s lies on the same disk as the store", p),
			"who takes the disk has names, indexes and mail of users without keys, and can try passwords against the rest",
			`keep it elsewhere: site_secret = "credential:site.secret" (sealed to the TPM), or "ask"`))
	}
	return out
}

// disk names the whole disk that a device number is a part of, as far as that can be told.
func (h *Host) disk(dev uint64) string {
	number := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	target, err := filepath.EvalSymlinks(h.path("/sys/dev/block/" + number))
	if err != nil {
		return number
	}
	if _, err := os.Stat(filepath.Join(target, "partition")); err == nil {
		return filepath.Base(filepath.Dir(target))
	}
	return filepath.Base(target)
}

func storePermissions(_ context.Context, h *Host) []Finding {
	out := h.private(h.Config.Store, 0o022, "whoever can write to the store can remove mail, or put older versions back")
	return append(out, h.private(filepath.Join(h.Config.Store, ".mailcryptfs"), 0o077, "it holds the key records")...)
}

// keyringDir looks at the directory of the unlocked users' keys.
func keyringDir(_ context.Context, h *Host) []Finding {
	p := h.Config.Keyring
	out := h.private(p, 0o077, "its entries open the mail of users who are unlocked")
	var st unix.Statfs_t
	if err := unix.Statfs(h.path(p), &st); err == nil && st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
		out = append(out, found(Fail, p+" is not in memory", "keys of users would be written to a disk", "set keyring to a directory on tmpfs, for example below /run"))
	}
	return out
}

// mountGuard looks at the bare directory beneath the view: mail must not land there while nothing is mounted.
func mountGuard(_ context.Context, h *Host) []Finding {
	view := h.path(h.Config.View)
	var fs unix.Statfs_t
	var out []Finding
	const fuse = 0x65735546 // FUSE_SUPER_MAGIC of linux/magic.h
	if err := unix.Statfs(view, &fs); err != nil || fs.Type != fuse {
		out = append(out, found(Fail, h.Config.View+" is not mounted", "mail cannot be delivered or read", "systemctl start mailcryptfs"))
	}
	bare, release, err := beneath(view)
	if errors.Is(err, unix.ENOENT) {
		return out
	}
	if err != nil {
		return append(out, unknown("the directory beneath "+h.Config.View, err)...)
	}
	defer release()
	st, names, err := look(bare)
	if err != nil {
		return append(out, unknown("the directory beneath "+h.Config.View, err)...)
	}
	if len(names) > 0 {
		out = append(out, found(Fail, fmt.Sprintf("there are files beneath %s: %q", h.Config.View, names[0]),
			"they were written in clear while the view was not mounted, and nobody sees them now",
			"stop the mail server and mailcryptfs, move them away, deliver what is mail, then erase them"))
	}
	if st.Uid != 0 || st.Mode&0o777 != 0 {
		out = append(out, found(Fail, fmt.Sprintf("the directory beneath %s has mode %04o and belongs to uid %d", h.Config.View, st.Mode&0o7777, st.Uid),
			"while the view is not mounted, mail would be delivered into it in clear", "systemctl restart mailcryptfs, which guards it"))
	}
	return out
}

// beneath opens the directory that a mount on path hides: a private copy of the mount above does not have it.
func beneath(path string) (fd int, release func(), err error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, filepath.Dir(path), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, nil, fmt.Errorf("open_tree: %w", err)
	}
	fd, err = unix.Openat(tree, filepath.Base(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(tree)
		return -1, nil, err
	}
	return fd, func() { _, _ = unix.Close(fd), unix.Close(tree) }, nil
}

func look(fd int) (st unix.Stat_t, names []string, err error) {
	if err := unix.Fstat(fd, &st); err != nil {
		return st, nil, err
	}
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return st, nil, err
	}
	d := os.NewFile(uintptr(again), "")
	defer d.Close()
	names, _ = d.Readdirnames(1) // io.EOF for an empty one
	return st, names, nil
}

// manyEntries bounds the walk for plain entries.
const manyEntries = 500_000

var errEnough = errors.New("enough")

// plainEntries recommends plain = "refuse" where nothing plain is left to serve.
func plainEntries(ctx context.Context, h *Host) []Finding {
	c := h.Config
	if c.Plain != "serve" || c.Delivery == "plaintext" || c.Unenrolled == "plaintext" {
		return nil
	}
	root, seen, plain := h.path(c.Store), 0, false
	err := filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error {
		seen++
		switch {
		case err != nil:
			return nil // gone meanwhile
		case ctx.Err() != nil || seen > manyEntries:
			return errEnough
		case d.IsDir() && path == filepath.Join(root, ".mailcryptfs"):
			return filepath.SkipDir
		case d.Type().IsRegular() && !strings.HasPrefix(d.Name(), "mc1"):
			plain = true
			return errEnough
		}
		return nil
	})
	if plain || err != nil || seen <= 1 {
		return nil
	}
	return []Finding{found(Note, `no file of the store is plain, and plain = "serve"`,
		"whoever can write to the store could slip in messages that the mail server takes for genuine", `set plain = "refuse"`)}
}
