package names

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// forge seals names from FORMAT.md section 2 without the packages under test.
type forge struct{ mac, enc, xattr []byte }

func newForge() forge {
	p, err := hkdf.Extract(sha256.New, siteSecret(), []byte("mailcryptfs site v1"))
	if err != nil {
		panic(err)
	}
	key := func(label string) []byte {
		k, err := hkdf.Expand(sha256.New, p, label, 32)
		if err != nil {
			panic(err)
		}
		return k
	}
	return forge{key("names mac"), key("names enc"), key("xattr")}
}

func (f forge) sum(label, name string) []byte {
	h := hmac.New(sha256.New, f.mac)
	h.Write([]byte(label + name))
	return h.Sum(nil)
}

func (f forge) seal(label, name string) []byte {
	tag := f.sum(label, name)[:16]
	block, err := aes.NewCipher(f.enc)
	if err != nil {
		panic(err)
	}
	out := []byte(name)
	cipher.NewCTR(block, tag).XORKeyStream(out, out)
	return append(tag, out...)
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (f forge) short(name string) string {
	return "mc1=" + encode64(f.seal("mailcryptfs name v1\x00", name))
}

func (f forge) long(name string) (stored string, side []byte) {
	return "mc1+" + encode64(f.sum("mailcryptfs long name v1\x00", name)), f.seal("mailcryptfs name v1\x00", name)
}

func (f forge) target(target string) string {
	return "mc1=" + encode64(f.seal("mailcryptfs symlink v1\x00", target))
}

// attr is X1 with a nonce that counts up from the length of the name.
func (f forge) attr(name, value string) (stored string, sealed []byte) {
	block, err := aes.NewCipher(f.xattr)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, 12)
	for i := range nonce {
		nonce[i] = byte(len(name) + i)
	}
	const label = "mailcryptfs xattr v1\x00"
	return "user.mc1." + encode64(f.seal(label, name)), gcm.Seal(nonce, nonce, []byte(value), []byte(label+name))
}

// nonCanonical sets an unused bit of the last character; the length must leave some unused.
func nonCanonical(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[last|1])
}

func replaced(s string, at int) string {
	c := byte('A')
	if s[at] == c {
		c = 'B'
	}
	return s[:at] + string(c) + s[at+1:]
}
