// Package site holds what is derived from the site secret: the keys of names, records and meta content, and the salts of
// passwords (FORMAT.md K1, K2).
package site

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// extractSalt separates the site secret from every other use of the same bytes (FORMAT.md K1).
const extractSalt = "mailcryptfs site v1"

// saltSize is the length of a user's salt and of the Argon2id salt made from it, in bytes.
const saltSize = 16

// Keys are the site's keys. They live as long as the process and are safe for concurrent use; whoever made them wipes
// them.
type Keys struct {
	NamesMAC  *secret.Key // authenticates names (N2)
	NamesEnc  *secret.Key // encrypts names (N2)
	RecordMAC *secret.Key // authenticates key records (K9)
	XAttr     *secret.Key // encrypts the values of extended attributes (X1)
	Audit     *secret.Key // authenticates the audit log (L2)

	Meta     secret.ContentKey // content of class meta
	Delivery secret.ContentKey // private content of users who are not enrolled, or of all with delivery = "site"

	prk *secret.Key // P of K1, for the salts of users who are not known yet
}

// Derive makes the keys of the 32-byte site secret s and wipes s. It returns secret.ErrMemory if memory cannot be
// locked. Another length of s panics.
func Derive(s []byte) (*Keys, error) {
	defer secret.Wipe(s)
	if len(s) != secret.Size {
		panic("site: the site secret has 32 bytes")
	}
	var k *Keys
	var err error
	secret.Do(func() { k, err = derive(s) })
	return k, err
}

func derive(s []byte) (*Keys, error) {
	prk, err := hkdf.Extract(sha256.New, s, []byte(extractSalt))
	if err != nil {
		return nil, fmt.Errorf("cannot extract the site key: %w", err)
	}
	defer secret.Wipe(prk)
	k := new(Keys)
	for _, d := range []struct {
		label string
		key   **secret.Key
	}{
		{"names mac", &k.NamesMAC},
		{"names enc", &k.NamesEnc},
		{"meta content key", &k.Meta.Key},
		{"site delivery content key", &k.Delivery.Key},
		{"record mac", &k.RecordMAC},
		{"xattr", &k.XAttr},
		{"audit mac", &k.Audit},
	} {
		if *d.key, err = expandKey(prk, d.label); err != nil {
			k.Wipe()
			return nil, err
		}
	}
	for _, d := range []struct {
		label string
		id    *secret.ID
	}{
		{"meta content key id", &k.Meta.ID},
		{"site delivery content key id", &k.Delivery.ID},
	} {
		b, err := hkdf.Expand(sha256.New, prk, d.label, len(d.id))
		if err != nil {
			k.Wipe()
			return nil, fmt.Errorf("cannot derive the %s: %w", d.label, err)
		}
		copy(d.id[:], b)
	}
	if k.prk, err = secret.NewKey(prk); err != nil {
		k.Wipe()
		return nil, err
	}
	return k, nil
}

func expandKey(prk []byte, label string) (*secret.Key, error) {
	b, err := hkdf.Expand(sha256.New, prk, label, secret.Size)
	if err != nil {
		return nil, fmt.Errorf("cannot derive the %s key: %w", label, err)
	}
	return secret.NewKey(b)
}

// ArgonSalt returns the 16-byte Argon2id salt of the user whose record holds userSalt, 16 bytes (FORMAT.md K1, K10). It
// returns secret.ErrWiped after Wipe.
func (k *Keys) ArgonSalt(userSalt []byte) ([]byte, error) {
	if len(userSalt) != saltSize {
		return nil, fmt.Errorf("a user's salt has %d bytes, not %d", saltSize, len(userSalt))
	}
	var salt []byte
	err := k.prk.Use(func(prk []byte) error {
		var err error
		salt, err = hkdf.Expand(sha256.New, prk, "argon2 salt"+string(userSalt), saltSize)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot derive the salt of a user: %w", err)
	}
	return salt, nil
}

// Wipe zeroes all keys.
func (k *Keys) Wipe() {
	for _, key := range []*secret.Key{k.NamesMAC, k.NamesEnc, k.RecordMAC, k.XAttr, k.Audit, k.Meta.Key, k.Delivery.Key, k.prk} {
		if key != nil {
			key.Wipe()
		}
	}
}
