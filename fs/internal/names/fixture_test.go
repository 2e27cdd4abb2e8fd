package names

import (
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
	"github.com/mailcryptfs/mailcryptfs/keyring/site"
)

const secretHex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func siteSecret() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// newCodec returns a codec and the sealer of attributes under the site secret of the vectors.
func newCodec(t testing.TB, plain bool) (*Codec, *seal.XAttrs) {
	t.Helper()
	k, err := site.Derive(siteSecret())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	n, err := seal.NewNames(k.NamesMAC, k.NamesEnc)
	if err != nil {
		t.Fatal(err)
	}
	x, err := seal.NewXAttrs(k.XAttr)
	if err != nil {
		t.Fatal(err)
	}
	return New(n, plain), x
}
