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
	payload = payload[:at+1]
	if err := f.put(last, payload, f.final); err != nil {
		return err
	}
	layout := format.Padded
	if f.final {
		layout = format.WriteOnce
	}
	stored := format.StoredSize(size, layout)
	// A crash before this leaves a file whose block `last` reads as zeros behind
	// its payload (C8); nothing of that was acknowledged.
	if err := f.low.Truncate(stored); err != nil {
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
	aligned := (last + 1).StoredStart()
	if f.stored != aligned {
		if err := f.low.Truncate(aligned); err != nil {
			return err
		}
		f.stored = aligned
		if err := f.low.Sync(false); err != nil {
			return err
		}
	}
	if last > 0 && f.hdr.Layout == format.WriteOnce {
		if err := f.reseal(0); err != nil {
			return err
		}
	}
	if err := f.reseal(last); err != nil {
		return err
	}
	f.final = false
	return nil
}

// reseal seals block no as one of a padded file and makes it durable.
func (f *File) reseal(no format.BlockNo) error {
	buf := scratch.Get().(*[format.BlockSize]byte)
	defer scratch.Put(buf)
	payload, err := f.load(no, buf)
	if err != nil {
		return err
	}
	old := f.hdr.Layout
	f.hdr.Layout = format.Padded
	if err := f.put(no, payload, false); err != nil {
		if no == 0 {
			f.hdr.Layout = old
		}
		return err
	}
	return f.low.Sync(false)
}
