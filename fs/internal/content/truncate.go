package content

import (
	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
)

// Truncate sets the plaintext size. New bytes are zero. Errors as WriteAt.
func (f *File) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case size > maxPlain:
		return ErrTooLarge
	case size == f.plain:
		return f.low.Truncate(f.stored) // only the times change
	case size == 0:
		return f.empty()
	}
	if err := f.prepare(); err != nil {
		return err
	}
	if size > f.plain {
		return f.extend(size)
	}
	return f.shrink(size)
}

func (f *File) empty() error {
	if err := f.low.Truncate(0); err != nil {
		return err
	}
	f.key, f.plain, f.stored, f.tail, f.fresh = nil, 0, 0, f.tail[:0], true
	return nil
}

// shrink cuts the file to size, which is less than its size.
func (f *File) shrink(size int64) error {
	if size == 0 {
		return f.empty()
	}
	last, at := format.Locate(size - 1)
	buf := scratch.Get().(*[format.BlockSize]byte)
	defer scratch.Put(buf)
	payload, err := f.load(last, buf)
	if err != nil {
		return err
	}
	f.tail = f.tail[:0]
	old := append([]byte(nil), payload...)
	payload = payload[:at+1]
	layout := format.Padded
	if f.final {
		layout = format.WriteOnce
	}
	stored := format.StoredSize(size, layout)
	// A crash in between leaves a file whose block `last` reads as zeros behind its
	// payload (C8); nothing of that was acknowledged.
	err = f.put(last, payload, f.final)
	if err == nil {
		err = f.low.Truncate(stored)
	}
	if err != nil {
		_ = f.put(last, old, f.final && last == f.lastNo())
		_ = f.low.Truncate(f.stored)
		return err
	}
	f.plain, f.stored = size, stored
	f.tail, f.tailNo = append(f.tail, payload...), last
	return nil
}

// toPadded changes the layout from write-once to padded, so that no power cut can
// lose what was acknowledged: the steps of C10.
func (f *File) toPadded() error {
	last := f.lastNo()
	if aligned := (last + 1).StoredStart(); f.stored != aligned {
		err := f.step(func() error {
			err := f.low.Truncate(aligned)
			if err == nil {
				f.stored = aligned
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if last > 0 && f.hdr.Layout == format.WriteOnce {
		if err := f.step(func() error { return f.reseal(0) }); err != nil {
			return err
		}
	}
	return f.step(func() error {
		err := f.reseal(last)
		if err == nil {
			f.final = false
		}
		return err
	})
}

// step makes one change of C10 durable. What a failed step has left is made durable
// before the next.
func (f *File) step(change func() error) error {
	if err := f.catchUp(); err != nil {
		return err
	}
	f.unsynced = true
	if err := change(); err != nil {
		return err
	}
	return f.catchUp()
}

// catchUp makes durable what steps of C10 have changed.
func (f *File) catchUp() error {
	if !f.unsynced {
		return nil
	}
	err := f.low.Sync(false)
	if err == nil {
		f.unsynced = false
	}
	return err
}

// reseal seals block no as one of a padded file. If that fails, the block is as it
// was.
func (f *File) reseal(no format.BlockNo) error {
	buf := scratch.Get().(*[format.BlockSize]byte)
	defer scratch.Put(buf)
	payload, err := f.load(no, buf)
	if err != nil {
		return err
	}
	old := f.hdr.Layout
	f.hdr.Layout = format.Padded
	if err = f.put(no, payload, false); err != nil {
		f.hdr.Layout = old
		_ = f.put(no, payload, f.final && no == f.lastNo())
	}
	return err
}
