// Package export writes a user's mail as plain files, as a maildir or as mbox files, into a new directory or a tar
// stream. What it reads may be hostile: no name leads out of the destination, and no symbolic link is followed.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Format is what mail is written as.
type Format string

const (
	// Maildir keeps folders, names, flags, keywords and subscriptions as they are.
	Maildir Format = "maildir"
	// Mbox writes one file for each folder, in the mboxrd format.
	Mbox Format = "mbox"
)

// Options say what to export and where to.
type Options struct {
	Store    *offline.Store
	User     account.User
	Profile  string // as in the configuration
	Format   Format
	Dest     Dest
	Progress func(Report)                 // called now and then, by the caller's goroutine; may be nil
	Problem  func(path string, err error) // called for everything that is not exported and should have been
}

// Report counts what was done.
type Report struct {
	Folders  int   `json:"folders"`
	Messages int   `json:"messages"`
	Files    int   `json:"files"`   // others than messages
	Bytes    int64 `json:"bytes"`   // of messages and files
	Skipped  int   `json:"skipped"` // symbolic links and the like: never followed, not exported
	Failed   int   `json:"failed"`  // could not be read; Problem was called for each
}

// errDest is a failure of the destination: nothing can go on after it.
var errDest = errors.New("cannot write the export")

// Dest takes what is exported. Paths are components, checked by check; directories come before what is in them.
type Dest interface {
	// Dir makes a directory.
	Dir(path []string) error
	// File makes a file of exactly size bytes, which r gives, with a time of last change.
	File(path []string, size int64, modified time.Time, r io.Reader) error
	// Stream makes a file of which fill writes the content; its size is not known before.
	Stream(path []string, fill func(io.Writer) error) error
	// Close makes everything durable.
	Close() error
}

// Run exports. It returns the error of ctx, of the destination or of the store's root; what cannot be read is counted,
// reported and left out. The destination is closed only if there was no error.
func Run(ctx context.Context, o Options) (Report, error) {
	places, err := o.Store.Places(o.User)
	if err != nil {
		return Report{}, err
	}
	e := &exporter{Options: o, ctx: ctx}
	for _, path := range places {
		if err := e.place(path); err != nil {
			return e.report, err
		}
	}
	if err := o.Dest.Close(); err != nil {
		return e.report, fmt.Errorf("%w: %w", errDest, err)
	}
	return e.report, nil
}

// exporter is one Run.
type exporter struct {
	Options
	ctx    context.Context
	report Report
	taken  map[string]bool // paths of mbox files
	dirs   map[string]state
	found  int // directories of the store
	missed int // directories that were listed and had gone

	inodes map[string]uint64 // of directories that first was asked about; 0 once their content was lost
}

func (e *exporter) place(path []string) error {
	dir, err := e.Store.Dir(path)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the directory of the user: %w", err)
	}
	defer dir.Close()
	switch e.Profile {
	case "dovecot-sdbox":
		return e.root(nil, func() error { return e.dbox(dir, nil) })
	case "cyrus":
		return e.root(path, func() error { return e.cyrus(dir, path) })
	}
	return e.root(nil, func() error { return e.tree(dir, nil, nil) })
}

// failed reports what cannot be read; a failure of the destination or of the context ends the export.
func (e *exporter) failed(path []string, err error) error {
	if errors.Is(err, errDest) || e.ctx.Err() != nil {
		return err
	}
	e.report.Failed++
	e.Problem(show(path), err)
	return nil
}

func (e *exporter) progress() {
	if e.Progress != nil {
		e.Progress(e.report)
	}
}

// dir makes a directory of the destination.
func (e *exporter) dir(path []string) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if err := check(path); err != nil {
		return err
	}
	if err := e.Dest.Dir(path); err != nil {
		return fmt.Errorf("%w: %w", errDest, err)
	}
	return nil
}

// put writes a file to the destination. The content is known to be readable: see steady.
func (e *exporter) put(path []string, size int64, modified time.Time, r io.Reader) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if err := check(path); err != nil {
		return err
	}
	if err := e.Dest.File(path, size, modified, r); err != nil {
		return destError(path, err)
	}
	e.report.Bytes += size
	return nil
}

// stream writes an mbox file to the destination.
func (e *exporter) stream(path []string, fill func(io.Writer) error) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if err := check(path); err != nil {
		return err
	}
	for i := range path[:len(path)-1] {
		if err := e.dir(path[:i+1]); err != nil {
			return err
		}
	}
	var n counter
	if err := e.Dest.Stream(path, func(w io.Writer) error { return fill(io.MultiWriter(w, &n)) }); err != nil {
		return destError(path, err)
	}
	e.report.Bytes += int64(n)
	return nil
}

// destError names the file at path in an error of the destination.
func destError(path []string, err error) error {
	if errors.Is(err, errDest) {
		return fmt.Errorf("%s: %w", show(path), err)
	}
	return fmt.Errorf("%w: %s: %w", errDest, show(path), err)
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// copyFile exports a file as it is, to path.
func (e *exporter) copyFile(dir *offline.Dir, name string, path []string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := steady(f, f.Size)
	if err != nil {
		return err
	}
	return e.put(path, f.Size, f.ModTime, r)
}

// inMemory is up to which size a file is held in memory while it is written, in bytes. A larger one is read twice.
const inMemory = 8 << 20

// steady makes sure that size bytes can be read before the first of them is written: a file in the destination is whole
// or not there.
func steady(f io.ReaderAt, size int64) (io.Reader, error) {
	r := io.NewSectionReader(f, 0, size)
	if size > inMemory {
		if n, err := io.Copy(io.Discard, r); err != nil || n != size {
			return nil, errors.Join(err, short(n, size))
		}
		return io.NewSectionReader(f, 0, size), nil
	}
	b := make([]byte, size)
	if n, err := io.ReadFull(r, b); err != nil {
		return nil, errors.Join(err, short(int64(n), size))
	}
	return newBytes(b), nil
}
