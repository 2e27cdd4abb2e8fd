package posix

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/integration/harness"
)

// A record of the append tests: length, writer, number, filler, checksum. Its size differs from record to record, so that
// records lie across the edges of pages and blocks.
const recordHeader = 4 + 4 + 4

func record(writer, number int) []byte {
	n := recordHeader + (writer*131+number*977)%700 + 4
	b := bytes.Repeat([]byte{byte('a' + writer)}, n)
	binary.BigEndian.PutUint32(b, uint32(n))
	binary.BigEndian.PutUint32(b[4:], uint32(writer))
	binary.BigEndian.PutUint32(b[8:], uint32(number))
	binary.BigEndian.PutUint32(b[n-4:], crc32.ChecksumIEEE(b[:n-4]))
	return b
}

// checkRecords fails unless b is made of whole records, each writer's in order and complete.
func checkRecords(b []byte, writers, each int) error {
	next := make([]int, writers)
	for off := 0; off < len(b); {
		if len(b)-off < recordHeader {
			return fmt.Errorf("torn record at %d", off)
		}
		n := int(binary.BigEndian.Uint32(b[off:]))
		w := int(binary.BigEndian.Uint32(b[off+4:]))
		i := int(binary.BigEndian.Uint32(b[off+8:]))
		if n < recordHeader+4 || n > len(b)-off || w >= writers {
			return fmt.Errorf("no record at %d: % x", off, b[off:min(len(b), off+16)])
		}
		if !bytes.Equal(b[off:off+n], record(w, i)) {
			return fmt.Errorf("record %d of writer %d at %d is damaged", i, w, off)
		}
		if i != next[w] {
			return fmt.Errorf("writer %d: record %d at %d where %d should come", w, i, off, next[w])
		}
		next[w]++
		off += n
	}
	for w, n := range next {
		if n != each {
			return fmt.Errorf("writer %d: %d records of %d are there", w, n, each)
		}
	}
	return nil
}

// childAppend PATH WRITER COUNT appends records; every 16th time it opens the file anew.
func childAppend(c *harness.Child) (err error) {
	var f *os.File
	if err := c.Say("ready"); err != nil {
		return err
	}
	if _, err := c.Hear(); err != nil {
		return err
	}
	for i := range c.Int(2) {
		if i%16 == 0 {
			if f != nil {
				if err := f.Close(); err != nil {
					return err
				}
			}
			if f, err = os.OpenFile(c.Args[0], os.O_WRONLY|os.O_APPEND, 0); err != nil {
				return err
			}
		}
		if _, err := f.Write(record(c.Int(1), i)); err != nil {
			return err
		}
		if i%50 == 49 {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	return f.Close()
}

func testAppenders(t *testing.T, p *place) {
	const writers, each = 4, 250
	path := p.path("log")
	write(t, path, nil)
	var procs []*harness.Proc
	for w := range writers {
		procs = append(procs, harness.Spawn(t, "append", path, strconv.Itoa(w), strconv.Itoa(each)))
	}
	for _, c := range procs {
		c.Expect(t, "ready")
	}
	for _, c := range procs {
		c.Tell(t, "go")
	}
	for _, c := range procs {
		c.Wait(t)
	}
	if err := checkRecords(read(t, path), writers, each); err != nil {
		t.Error(err)
	}
	if p.refresh != nil {
		p.refresh(t)
		if err := checkRecords(read(t, path), writers, each); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	}
}

// testAppendThenTruncate: an O_APPEND handle goes on at the end that another handle has made.
func testAppendThenTruncate(t *testing.T, p *place) {
	path := p.path("f")
	a := open(t, path, os.O_CREATE|os.O_WRONLY|os.O_APPEND)
	b := open(t, path, os.O_RDWR)
	want := []byte{}
	for i, n := range []int{10, 5000, 3, 4096, 0, 4010, 4011, 9000} {
		piece := bytes.Repeat([]byte{byte('0' + i)}, 100+i)
		if _, err := a.Write(piece); err != nil {
			t.Fatal(err)
		}
		want = append(want, piece...)
		expect(t, path, want)
		if err := b.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
		want = append(want, make([]byte, 10000)...)[:n]
		expect(t, path, want)
	}
}
