package powercut

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mailcryptfs/mailcryptfs/integration/writers"
)

const page = 4096

// event is a write, or a flush if it has no data.
type event struct {
	off  int64
	data []byte
}

func (e event) flush() bool { return e.data == nil }

// disk is a file of a filesystem of its own that records what is done to it. Its content is in memory.
type disk struct {
	fusefs.Inode

	mu        sync.Mutex
	data      []byte
	recording bool
	events    []event
	clock     *writers.Clock // shows the number of events; nil if nobody wants to know
}

// record begins to keep every write and flush, and writes what is on the disk then to a file. The clock shows the number
// of events.
func (d *disk) record(clock *writers.Clock, base string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording, d.clock, d.events = true, clock, nil
	return writeSparse(base, d.data)
}

// stop ends the record and writes it to a file.
func (d *disk) stop(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording, d.clock = false, nil
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for _, e := range d.events {
		head := binary.LittleEndian.AppendUint64(nil, uint64(e.off))
		head = binary.LittleEndian.AppendUint64(head, uint64(len(e.data)))
		_, _ = w.Write(head)
		_, _ = w.Write(e.data)
	}
	return errors.Join(w.Flush(), f.Close())
}

// note adds an event. The clock shows it before whoever waits for it hears that it is done.
func (d *disk) note(e event) {
	if !d.recording {
		return
	}
	d.events = append(d.events, e)
	if d.clock != nil {
		d.clock.Set(uint64(len(d.events)))
	}
}

// diskDir is the root of the filesystem.
type diskDir struct {
	fusefs.Inode
	disk *disk
}

var (
	_ fusefs.NodeOnAdder   = (*diskDir)(nil)
	_ fusefs.NodeGetattrer = (*disk)(nil)
	_ fusefs.NodeOpener    = (*disk)(nil)
	_ fusefs.NodeReader    = (*disk)(nil)
	_ fusefs.NodeWriter    = (*disk)(nil)
	_ fusefs.NodeFsyncer   = (*disk)(nil)
)

// OnAdd makes the file.
func (r *diskDir) OnAdd(ctx context.Context) {
	child := r.NewPersistentInode(ctx, r.disk, fusefs.StableAttr{Mode: fuse.S_IFREG})
	r.AddChild("disk", child, false)
}

// Getattr says the size.
func (d *disk) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blksize = fuse.S_IFREG|0o600, uint64(len(d.data)), page
	return 0
}

// Open lets nothing be cached.
func (d *disk) Open(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// Read reads.
func (d *disk) Read(_ context.Context, _ fusefs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := copy(dest, d.data[min(off, int64(len(d.data))):])
	return fuse.ReadResultData(dest[:n]), 0
}

// Write writes, and keeps what.
func (d *disk) Write(_ context.Context, _ fusefs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off+int64(len(data)) > int64(len(d.data)) {
		return 0, syscall.ENOSPC
	}
	copy(d.data[off:], data)
	d.note(event{off, bytes.Clone(data)})
	return uint32(len(data)), 0
}

// Fsync is what a flush of the disk becomes.
func (d *disk) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(event{})
	return 0
}
