package export

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

// cyrus exports the mailboxes below a directory of Cyrus' spool: messages are <uid>., and cyrus.index holds their flags
// and dates.
func (e *exporter) cyrus(dir *offline.Dir, at []string) error {
	if err := e.dir(nil); err != nil {
		return err
	}
	entries, err := dir.List()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, func(e offline.Entry) bool { return e.Name == "cyrus.header" }) {
		if err := e.cyrusBox(dir, at, entries); err != nil {
			return err
		}
	}
	for _, entry := range entries {
		if !entry.Type.IsDir() {
			continue
		}
		if err := e.sub(dir, entry.Name, join(at, entry.Name), e.cyrus); err != nil {
			return err
		}
	}
	return nil
}

// cyrusBox exports the mailbox in dir.
func (e *exporter) cyrusBox(dir *offline.Dir, at []string, entries []offline.Entry) error {
	if first, err := e.first(at, dir.Ino()); err != nil || !first {
		return err
	}
	b := &box{exporter: e, dir: dir, at: at, name: cyrusName(dir, at, string(e.User)), entries: entries}
	b.item = cyrusItems(b.index())
	return b.write()
}

// cyrusName is the name of the mailbox at path, below the user's INBOX: what its header says, else its path.
func cyrusName(dir *offline.Dir, path []string, user string) []string {
	if name, ok := headerName(dir); ok {
		return afterUser(strings.Split(name, "."), user)
	}
	return afterUser(path, user)
}

// afterUser cuts off everything up to the user's own component.
func afterUser(components []string, user string) []string {
	local, _, _ := strings.Cut(user, "@")
	for i, c := range components {
		plain := strings.ReplaceAll(c, "^", ".")
		if i > 0 && strings.TrimSuffix(components[i-1], "!") != "" && strings.HasSuffix(components[i-1], "user") && (plain == user || plain == local) {
			return components[i+1:]
		}
	}
	return components[max(0, len(components)-1):]
}

// headerName returns the mailbox's name that cyrus.header tells: the value after N.
func headerName(dir *offline.Dir) (string, bool) {
	f, err := dir.Open("cyrus.header")
	if err != nil {
		return "", false
	}
	defer f.Close()
	b := make([]byte, min(f.Size, 16<<10))
	if _, err := f.ReadAt(b, 0); err != nil {
		return "", false
	}
	fields := strings.Fields(string(b))
	for i, field := range fields {
		if strings.TrimLeft(field, "%(") == "N" && i+1 < len(fields) {
			return strings.Trim(fields[i+1], `"`), true
		}
	}
	return "", false
}

// Places in cyrus.index, in bytes; numbers are big-endian. Versions 12 to 18 share them.
const (
	indexVersion, indexStart, indexRecord, indexCount = 4, 12, 16, 20
	recordUID, recordDate, recordFlags                = 0, 4, 32
	minRecord                                         = 36
	maxIndex                                          = 1 << 30
)

// record is what cyrus.index says of a message.
type record struct {
	date     time.Time
	flags    string
	expunged bool
}

// flagBits are Cyrus' system flags and the letters of maildir for them, in the order of the letters.
var flagBits = []struct {
	bit    uint32
	letter string
}{{1 << 3, "D"}, {1 << 1, "F"}, {1 << 0, "R"}, {1 << 4, "S"}, {1 << 2, "T"}}

const expungedBit = 1 << 31

const (
	indexName  = "cyrus.index"
	indexTries = 10
)

// index reads what the index says of the messages. One that is damaged is reported, and the messages are exported all the
// same. One that is gone may be there again in a moment, as it is encrypted or replaced by a new one, or went with its
// mailbox.
func (b *box) index() map[uint32]record {
	for try := 1; ; try++ {
		records, err := readIndex(b.dir)
		if gone(err) {
			if left, err := b.dir.List(); gone(err) || err == nil && len(left) == 0 { // one that is removed is empty
				return nil
			}
			if try < indexTries {
				b.pause()
				continue
			}
		}
		if err != nil {
			_ = b.failed(join(b.at, indexName), err) // the destination is not concerned
		}
		return records
	}
}

// cyrusItems takes flags and dates of messages from the records, and leaves out what they say was expunged.
func cyrusItems(records map[uint32]record) func(offline.Entry) (item, bool) {
	return func(entry offline.Entry) (item, bool) {
		digits, ok := strings.CutSuffix(entry.Name, ".")
		uid, err := strconv.ParseUint(digits, 10, 32)
		r, known := records[uint32(uid)]
		find := func(f *offline.File) (extent, error) {
			e := extent{size: f.Size, modified: f.ModTime}
			if known {
				e.modified = r.date
			}
			return e, nil
		}
		return item{file: entry.Name, uid: uint32(uid), flags: r.flags, find: find}, ok && err == nil && entry.Type == 0 && !r.expunged
	}
}

func readIndex(dir *offline.Dir) (map[uint32]record, error) {
	f, err := dir.Open(indexName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var head [64]byte
	if f.Size < int64(len(head)) || f.Size > maxIndex {
		return nil, fmt.Errorf("its size cannot be %d", f.Size)
	}
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	at := func(off int) int64 { return int64(binary.BigEndian.Uint32(head[off:])) }
	start, size, count := at(indexStart), at(indexRecord), at(indexCount)
	if v := at(indexVersion); v < 12 || v > 18 || size < minRecord || size > 1024 || start < 32 || start+size*count > f.Size {
		return nil, fmt.Errorf("version %d of it, with %d records of %d bytes, cannot be read", v, count, size)
	}
	b := make([]byte, size*count)
	if _, err := f.ReadAt(b, start); err != nil && len(b) > 0 {
		return nil, err
	}
	out := make(map[uint32]record, count)
	for ; len(b) > 0; b = b[size:] {
		field := func(off int) uint32 { return binary.BigEndian.Uint32(b[off:]) }
		r := record{date: time.Unix(int64(field(recordDate)), 0), expunged: field(recordFlags)&expungedBit != 0}
		for _, f := range flagBits {
			if field(recordFlags)&f.bit != 0 {
				r.flags += f.letter
			}
		}
		out[field(recordUID)] = r
	}
	return out, nil
}
