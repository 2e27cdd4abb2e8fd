package writers

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// mail is the content that belongs to a name; nothing else may ever be found under it.
func mail(name string) []byte {
	seed := uint64(crc32.ChecksumIEEE([]byte(name)))
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, 50+r.IntN([]int{3000, 9000, 60000}[r.IntN(3)]))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// logRecord is the i-th record of an append-only log.
func logRecord(i int) []byte {
	return bytes.Repeat([]byte{byte(i), byte(i>>8) | 1, 0xa5}, 30+i*37%200)
}

// slots and slotSize are the records of a file that is changed in place; some lie across the edge of two blocks.
const slots, slotSize = 64, 700

// Password is the one of a user after n changes.
func Password(user string, n int) []byte {
	return fmt.Appendf(nil, "pass word %d of %s; ü%%", n, user)
}

// flagged is the i-th name of a message whose flags change; a long one now and then, which has a side entry.
func flagged(id string, i int) string {
	if i%3 == 2 {
		return fmt.Sprintf("%s,%0200d:%d", id, 0, i)
	}
	return fmt.Sprintf("%s:%d", id, i)
}
