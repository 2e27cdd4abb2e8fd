package hostile

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// outcome is what a program sees of a file that somebody has changed in the store.
type outcome string

const (
	same     outcome = "the file as it was"
	refusal  outcome = "an error"
	older    outcome = "an older version"
	mixed    outcome = "blocks of several versions"
	shorter  outcome = "its beginning"
	empty    outcome = "an empty file"
	gone     outcome = "no such file"
	another  outcome = "another file that was put in its place"
	wrong    outcome = "WRONG CONTENT"
	firstCap         = 4010 // payload of block 0 (FORMAT.md C4)
	otherCap         = 4066 // and of all others
)

// judge says what was read of a file, given whose content may be there: its own versions, and those of what was put in its
// place. Whatever was read before an error has to be right as well.
func judge(f *file, got []byte, err error, instead []*file) outcome {
	if errors.Is(err, unix.ENOENT) {
		return gone
	}
	if err != nil {
		if len(got) > 0 && !begins(f, got, err) && !anyBegins(instead, got, err) {
			return wrong
		}
		return refusal
	}
	for i := len(f.versions) - 1; i >= 0; i-- {
		if bytes.Equal(got, f.versions[i].plain) {
			if i == len(f.versions)-1 {
				return same
			}
			return older
		}
	}
	if len(got) == 0 {
		return empty
	}
	for _, o := range instead {
		for _, v := range o.versions {
			if bytes.Equal(got, v.plain) {
				return another
			}
		}
	}
	switch {
	case f.writer || f.private && !begins(f, got, nil):
		return wrong
	case bytes.HasPrefix(f.now().plain, got):
		return shorter
	case begins(f, got, nil):
		return mixed
	}
	return wrong
}

func anyBegins(all []*file, got []byte, err error) bool {
	for _, o := range all {
		if begins(o, got, err) {
			return true
		}
	}
	return false
}

// begins says whether got is the beginning of a version, or, in the padded layout, whether each block of got is one of some
// version: payload, and zeros behind it if others follow. Of a read that failed the last block may be there in part.
func begins(f *file, got []byte, err error) bool {
	for _, v := range f.versions {
		if bytes.HasPrefix(v.plain, got) {
			return true
		}
	}
	if f.writer {
		return false
	}
	for at, n := 0, firstCap; at < len(got); at, n = at+n, otherCap {
		piece := got[at:min(at+n, len(got))]
		if !f.hasBlock(at, piece, n) {
			return false
		}
	}
	return true
}

func (f *file) hasBlock(at int, piece []byte, n int) bool {
	for _, v := range f.versions {
		if at >= len(v.plain) {
			continue
		}
		block := make([]byte, n)
		copy(block, v.plain[at:])
		if bytes.HasPrefix(block, piece) {
			return true
		}
	}
	return false
}
