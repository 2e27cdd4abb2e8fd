// Package seal turns plaintext into stored bytes and back: file keys, blocks,
// names and extended attributes, as FORMAT.md sections 2, 3 and 6 lay down. It is
// the only package below fs that imports a cipher. It does no I/O and takes no
// locks.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/format"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

const keySize = 32

// FileKey seals and opens the blocks of one stored file. It is safe for
// concurrent use. The key schedule that it holds lives on the Go heap and cannot
// be wiped; drop every reference to let it be collected.
type FileKey struct {
	aead cipher.AEAD
}

// NewFileKey derives the file key of header h from its content key (C6). The
// error is secret.ErrWiped when the content key is gone.
func NewFileKey(content *secret.Key, h *format.Header) (*FileKey, error) {
	info := make([]byte, 0, 80)
	info = append(info, "mailcryptfs file v1\x00"...)
	info = append(info, h.KeyID[:]...)
	info = append(info, h.Salt[:]...)
	var k FileKey
	err := content.Use(func(prk []byte) error {
		raw, err := hkdf.Expand(sha256.New, prk, string(info), keySize)
		if err != nil {
			return err
		}
		defer secret.Wipe(raw)
		k.aead, err = newGCM(raw)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot derive file key: %w", err)
	}
	return &k, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Block says which block is sealed, and how: its header (of block 0), number,
// and whether it is the final one (C7).
type Block struct {
	Header *format.Header
	No     format.BlockNo
	Final  bool
}

const maxAD = format.HeaderSize + format.FieldSize + 8

func (b Block) ad(buf []byte, f format.Field) []byte {
	if b.No == 0 {
		buf = b.Header.AppendTo(buf)
	} else {
		buf = append(buf, format.Version)
	}
	buf = binary.BigEndian.AppendUint16(buf, uint16(f))
	return binary.BigEndian.AppendUint64(buf, uint64(b.No))
}

// Seal writes the stored bytes of block b into dst, header included, and returns
// how many there are: 4096 unless the block is final. dst must have 4096 bytes,
// nonce 12 random ones never used before, and plain 1 byte up to the capacity of
// the block.
func (k *FileKey) Seal(dst []byte, b Block, nonce, plain []byte) int {
	f := format.MakeField(b.No, len(plain), b.Final)
	at := b.No.RecordOffset()
	if b.No == 0 {
		b.Header.AppendTo(dst[:0])
	}
	copy(dst[at:], nonce[:format.NonceSize])
	at += format.NonceSize
	binary.BigEndian.PutUint16(dst[at:], uint16(f))
	at += format.FieldSize
	text := dst[at : at+f.CipherLen(b.No)]
	if len(plain) < len(text) {
		n := copy(text, plain)
		clear(text[n:])
		plain = text
	}
	var ad [maxAD]byte
	k.aead.Seal(text[:0], nonce[:format.NonceSize], plain, b.ad(ad[:0], f))
	return f.StoredLen(b.No)
}

// Open opens the stored bytes of block b (4096, or fewer at the end of a file)
// and appends the payload to dst, which may have no spare capacity. b.Final is ignored: the second
// result tells whether the block is final. stored is not changed and must not
// overlap dst. The error wraps format.ErrCorrupt.
func (k *FileKey) Open(dst []byte, b Block, stored []byte) ([]byte, bool, error) {
	f, err := format.ParseField(b.No, stored)
	if err != nil {
		return dst, false, err
	}
	at := b.No.RecordOffset()
	nonce := stored[at : at+format.NonceSize]
	at += format.NonceSize + format.FieldSize
	text := stored[at : at+f.CipherLen(b.No)+format.TagSize]
	var ad [maxAD]byte
	out, err := k.aead.Open(dst, nonce, text, b.ad(ad[:0], f))
	if err != nil {
		return dst, false, fmt.Errorf("%w: block %d does not authenticate", format.ErrCorrupt, b.No)
	}
	end := len(dst) + f.Len()
	if !format.Zero(out[end:]) {
		return dst, false, fmt.Errorf("%w: padding of block %d is not zero", format.ErrCorrupt, b.No)
	}
	return out[:end], f.Final(), nil
}
