package keyring

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
	"github.com/mailcryptfs/mailcryptfs/keyring/internal/tmpfs"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
	"github.com/mailcryptfs/mailcryptfs/keyring/slot"
)

// dirInterval is how often the directory itself is looked at. The kernel tells of its removal only when nobody has it
// open any more, and we do; its entries go before it, and of these we hear at once.
const dirInterval = 2 * time.Second

// Watch follows the keyring directory until ctx ends, and then returns nil: an entry that appears unlocks, one that goes
// locks, whoever did it. When the kernel has lost events everything is looked at again. If the directory itself is
// removed or no longer what it must be, everybody is locked and the error (tmpfs.ErrDir with a remedy) is returned.
func (r *Ring) Watch(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("cannot watch the keyring directory: %w", err)
	}
	defer w.Close()
	// By descriptor: the path may lead elsewhere by now.
	dir := filepath.Join("/proc/self/fd", strconv.Itoa(r.entries.FD()))
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("cannot watch the keyring directory %s: %w", r.entries.Path(), err)
	}
	// What happened between Open and here.
	if err := r.rescan(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(dirInterval)
	defer tick.Stop()
	reload := time.NewTicker(max(r.o.Epoch/2, dirInterval))
	defer reload.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			err = r.checkDir()
		case <-reload.C:
			r.reloadUnlocked()
		case ev, ok := <-w.Events:
			if !ok {
				return errors.New("the watch of the keyring directory ended")
			}
			if filepath.Clean(ev.Name) == dir {
				err = r.checkDir()
			} else {
				r.sync(filepath.Base(ev.Name))
			}
		case err, ok := <-w.Errors:
			if !ok {
				return errors.New("the watch of the keyring directory ended")
			}
			r.log.Warn("events of the keyring directory were lost, looking at all of it", "error", err)
			if err := r.rescan(ctx); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// reloadUnlocked takes up records that other hosts changed. A locked user's is looked at with each delivery key; an
// unlocked one's must be too, or we would seal under a content key that another host is about to destroy.
func (r *Ring) reloadUnlocked() {
	if !r.o.Cluster {
		return
	}
	for _, m := range r.all() {
		if !m.unlocked() {
			continue
		}
		m.slow.Lock()
		err := r.refresh(m)
		m.slow.Unlock()
		if err != nil {
			m.fail(r.log, fmt.Errorf("cannot read the key record again: %w", err))
		}
	}
}

// checkDir locks everybody if the keyring directory may not be trusted any more.
func (r *Ring) checkDir() error {
	err := r.entries.Check()
	if err == nil {
		return nil
	}
	for _, m := range r.all() {
		m.slow.Lock()
		r.lockMember(m, err.Error())
		m.slow.Unlock()
	}
	return err
}

// rescan looks at all entries and all unlocked users, until ctx ends.
func (r *Ring) rescan(ctx context.Context) error {
	if err := r.checkDir(); err != nil {
		return err
	}
	names, err := r.entries.List()
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, name := range names {
		if ctx.Err() != nil {
			return nil // so does Watch
		}
		seen[name] = true
		r.sync(name)
	}
	for _, m := range r.all() {
		if m.unlocked() && !seen[m.name] {
			r.sync(m.name)
		}
	}
	return nil
}

// sync brings one user in line with his entry, or with its absence. What is wrong is noted for Status and logged.
func (r *Ring) sync(name string) {
	if strings.HasPrefix(name, ".") {
		return // a temporary file has no meaning (FORMAT.md R1)
	}
	u, err := r.records.Resolve(name)
	var m *member
	if err == nil {
		m, err = r.member(u)
	}
	if err == nil {
		m.slow.Lock()
		err = r.syncMember(m)
		m.slow.Unlock()
		if err != nil {
			m.fail(r.log, fmt.Errorf("%s: %w", filepath.Join(r.entries.Path(), name), err))
		}
		return
	}
	r.refuse(name, err)
}

// syncMember returns why an entry that is there does not unlock. The caller holds slow.
func (r *Ring) syncMember(m *member) error {
	content, err := r.entries.Read(m.name)
	if errors.Is(err, tmpfs.ErrNotFound) {
		r.lockMember(m, "the keyring entry was removed")
		return nil
	}
	if errors.Is(err, tmpfs.ErrEntry) {
		r.lockMember(m, "the keyring entry is refused")
	}
	if err != nil {
		return err
	}
	defer secret.Wipe(content)
	entry, err := r.digest("entry", m.name, content)
	if err != nil {
		return err
	}
	m.mu.RLock()
	same := m.identity != nil && m.entry == entry
	m.mu.RUnlock()
	if same {
		return nil
	}
	if err := r.load(m, content, entry); err != nil {
		r.lockMember(m, "the keyring entry is refused")
		return err
	}
	return nil
}

// load unlocks the member by the content of an entry. The caller holds slow.
func (r *Ring) load(m *member, content []byte, entry digest) error {
	e, err := slot.ParseEntry(content)
	if err != nil {
		return err
	}
	defer e.Hash.Wipe()
	if err := r.refresh(m); err != nil {
		return err
	}
	identity, sl, err := openEntry(m.record(), r.o.Site, e)
	if err != nil {
		return err
	}
	return r.adopt(context.Background(), m, identity, "keyring entry of "+slotName(sl), entry)
}

// refuse notes that an entry belongs to nobody who could be unlocked, and logs that once.
func (r *Ring) refuse(name string, err error) {
	if !r.entries.Has(name) {
		r.mu.Lock()
		delete(r.refused, name)
		r.mu.Unlock()
		return
	}
	reason := notEnrolled(err).Error()
	if errors.Is(err, account.ErrEscaped) {
		reason = "its name is not an escaped user name"
	}
	r.mu.Lock()
	same := r.refused[name] == reason
	r.refused[name] = reason
	r.mu.Unlock()
	if !same {
		r.log.Warn("keyring entry refused", "entry", filepath.Join(r.entries.Path(), name), "reason", reason)
	}
}
