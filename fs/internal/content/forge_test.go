package content

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
)

// This file makes stored files from FORMAT.md section 3 without the packages under test, whole ones and damaged ones.

const (
	writeOnce = 1
	padded    = 2
	finalMark = 0x8000
)

var (
	vectorKey   = counting(0x20, 32)
	vectorKeyID = counting(0x40, 16)
	otherKey    = counting(0xa0, 32)
	otherKeyID  = counting(0xc0, 16)
)

// counting returns n bytes that count up from first.
func counting(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// forger writes stored files with a random sequence of its own, so that the same name always gives the same bytes.
type forger struct {
	rnd       *rand.ChaCha8
	key, id   []byte
	salt      []byte
	nextNonce []byte // used once in place of a random one
}

func newForger(name string) *forger {
	f := &forger{rnd: rand.NewChaCha8(sha256.Sum256([]byte(name))), key: vectorKey, id: vectorKeyID}
	f.salt = f.random(32)
	return f
}

func (f *forger) random(n int) []byte {
	b := make([]byte, n)
	_, _ = f.rnd.Read(b)
	return b
}

// header is C3.
func (f *forger) header(layout byte) []byte {
	return slices.Concat([]byte("mcfs"), []byte{1, layout, 0, 0}, f.id, f.salt)
}

func capacity(no int) int {
	if no == 0 {
		return 4010
	}
	return 4066
}

// start is the plaintext offset of block no.
func start(no int) int {
	if no == 0 {
		return 0
	}
	return 4010 + 4066*(no-1)
}

// seal is C4 to C6 with any field and any text: the stored bytes of block no, with header before block 0.
func (f *forger) seal(no int, header []byte, field uint16, text []byte) []byte {
	raw, err := hkdf.Expand(sha256.New, f.key, "mailcryptfs file v1\x00"+string(header[8:24])+string(header[24:56]), 32)
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := f.nextNonce
	if f.nextNonce = nil; nonce == nil {
		nonce = f.random(12)
	}
	be := binary.BigEndian.AppendUint16(nil, field)
	ad, out := []byte{1}, []byte(nil)
	if no == 0 {
		ad, out = slices.Clone(header), slices.Clone(header)
	}
	ad = binary.BigEndian.AppendUint64(append(ad, be...), uint64(no))
	out = append(append(out, nonce...), be...)
	return gcm.Seal(out, nonce, text, ad)
}

// full is a block that is not final (C5).
func (f *forger) full(no int, header, payload []byte) []byte {
	text := make([]byte, capacity(no))
	copy(text, payload)
	return f.seal(no, header, uint16(len(payload)), text)
}

// final is a final block (C5).
func (f *forger) final(no int, header, payload []byte) []byte {
	return f.seal(no, header, uint16(len(payload))|finalMark, payload)
}

// split cuts plaintext into payloads.
func split(plain []byte) [][]byte {
	var out [][]byte
	for len(plain) > 0 {
		n := min(len(plain), capacity(len(out)))
		out = append(out, plain[:n])
		plain = plain[n:]
	}
	return out
}

// blocks seals a whole file, block by block.
func (f *forger) blocks(layout byte, plain []byte) [][]byte {
	h := f.header(layout)
	parts := split(plain)
	out := make([][]byte, len(parts))
	for no, p := range parts {
		if layout == writeOnce && no == len(parts)-1 {
			out[no] = f.final(no, h, p)
		} else {
			out[no] = f.full(no, h, p)
		}
	}
	return out
}

func (f *forger) file(layout byte, plain []byte) []byte { return join(f.blocks(layout, plain)...) }

func join(blocks ...[]byte) []byte { return bytes.Join(blocks, nil) }

// filled extends b with zeros to a multiple of 4096.
func filled(b []byte) []byte { return append(slices.Clone(b), make([]byte, -len(b)&4095)...) }

func zeroBlocks(n int) []byte { return make([]byte, n*4096) }

// flipped returns b with one bit changed.
func flipped(b []byte, at int, bit byte) []byte {
	b = slices.Clone(b)
	b[at] ^= bit
	return b
}

// fieldAt is the offset of the field of block no in the file, and put sets it.
func fieldAt(no int) int {
	if no == 0 {
		return 68
	}
	return no*4096 + 12
}

func withField(b []byte, no int, field uint16) []byte {
	b = slices.Clone(b)
	binary.BigEndian.PutUint16(b[fieldAt(no):], field)
	return b
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
