package recovery

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// Shamir's secret sharing over the scalars of ristretto255 (github.com/cloudflare/circl): the secret, with its length and
// the beginning of its hash, is cut into pieces of 31 bytes, each of which is the value of a random polynomial at zero
// (FORMAT.md K22). Fewer shares than are needed are consistent with every secret of that length.

// MaxShares is the largest number of shares.
const MaxShares = 32

// Sizes in bytes.
const (
	maxSecret  = 4096
	pieceSize  = 31 // fits below the order of the group
	scalarSize = 32
	digestSize = 16
)

var (
	// ErrTooFew says that more shares are needed.
	ErrTooFew = errors.New("more shares are needed")
	// ErrShares says that shares do not belong together.
	ErrShares = errors.New("the shares do not belong together")
)

// ShareInfo is what can be told of one share.
type ShareInfo struct {
	Set    string // names what was split; the same in all shares of it
	Number int    // from 1
	Of     int    // how many were made
	Needed int    // how many bring the secret back
}

type shareText struct {
	Version int    `toml:"version"`
	Set     string `toml:"set"`
	Number  int    `toml:"number"`
	Of      int    `toml:"of"`
	Needed  int    `toml:"needed"`
}

// share is a share as it was read.
type share struct {
	ShareInfo
	values []byte // a scalar for each piece
}

// valuesLine is how the last line of a share begins.
const valuesLine = "values = \""

// Split makes n shares of a secret of 1 to 4,096 bytes, each as text, of which any k bring it back: 2 ≤ k ≤ n ≤ 32. The
// secret stays the caller's to wipe, and so do the shares. The library's intermediate values cannot be wiped.
func Split(s []byte, n, k int) ([][]byte, error) {
	if k < 2 || k > n || n > MaxShares {
		return nil, fmt.Errorf("%d of %d shares: at least 2 must be needed, and at most %d can be made", k, n, MaxShares)
	}
	if len(s) == 0 || len(s) > maxSecret {
		return nil, fmt.Errorf("a secret of %d bytes cannot be split: allowed are 1 to %d", len(s), maxSecret)
	}
	padded := pad(s)
	defer secret.Wipe(padded)
	values := make([][]byte, n)
	for at := 0; at < len(padded); at += pieceSize {
		var b [scalarSize]byte // little-endian; the highest byte stays zero
		copy(b[:], padded[at:at+pieceSize])
		piece := group.Ristretto255.NewScalar()
		err := piece.UnmarshalBinary(b[:])
		secret.Wipe(b[:])
		if err != nil {
			return nil, fmt.Errorf("cannot split a secret: %w", err)
		}
		for i, sh := range secretsharing.New(rand.Reader, uint(k-1), piece).Share(uint(n)) {
			v, err := sh.Value.MarshalBinary()
			if err != nil {
				return nil, fmt.Errorf("cannot split a secret: %w", err)
			}
			values[i] = append(values[i], v...)
			secret.Wipe(v)
		}
	}
	return texts(values, k)
}

func texts(values [][]byte, k int) ([][]byte, error) {
	var set [8]byte
	_, _ = rand.Read(set[:]) // never fails
	list := make([][]byte, len(values))
	for i, v := range values {
		head, err := marshal(shareText{Version: version, Set: hex.EncodeToString(set[:]), Number: i + 1, Of: len(values), Needed: k})
		if err != nil {
			return nil, err
		}
		// Not left to the encoder, which would make a string of it.
		body := make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(v))+20)
		body = append(append(body, head...), valuesLine...)
		body = base64.StdEncoding.AppendEncode(body, v)
		list[i] = armour(kindShare, append(body, "\"\n"...))
		secret.Wipe(v)
	}
	return list, nil
}

// ReadShare tells what a share is part of. Errors: ErrKind, ErrTruncated, ErrDamaged.
func ReadShare(text []byte) (ShareInfo, error) {
	s, err := parseShare(text)
	secret.Wipe(s.values)
	return s.ShareInfo, err
}

func parseShare(text []byte) (share, error) {
	body, err := unarmour(kindShare, text)
	defer secret.Wipe(body)
	if err != nil {
		return share{}, err
	}
	head, values, found := bytes.Cut(body, []byte("\n"+valuesLine))
	values, quoted := bytes.CutSuffix(values, []byte("\"\n"))
	if !found || !quoted {
		return share{}, fmt.Errorf("%w: it has no values", ErrDamaged)
	}
	var t shareText
	if err := decode(append(bytes.Clone(head), '\n'), &t); err != nil {
		return share{}, err
	}
	if t.Number < 1 || t.Number > t.Of || t.Of > MaxShares || t.Needed < 2 || t.Needed > t.Of || len(t.Set) != 16 {
		return share{}, fmt.Errorf("%w: share %d of %d, %d needed", ErrDamaged, t.Number, t.Of, t.Needed)
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(values)))
	n, err := base64.StdEncoding.Strict().Decode(b, values)
	if err != nil || n == 0 || n%scalarSize != 0 {
		secret.Wipe(b)
		return share{}, fmt.Errorf("%w: its values are not whole", ErrDamaged)
	}
	return share{ShareInfo{t.Set, t.Number, t.Of, t.Needed}, b[:n]}, nil
}

// Combine brings a secret back from shares, at least as many as are needed; a share that is given twice counts once. The
// caller wipes the result; the shares stay the caller's to wipe. Errors: ErrTooFew, ErrShares, and those of ReadShare with
// the number of the text, from 1.
func Combine(list [][]byte) ([]byte, error) {
	var shares []share
	defer func() {
		for _, s := range shares {
			secret.Wipe(s.values)
		}
	}()
	for i, text := range list {
		s, err := parseShare(text)
		if err != nil {
			return nil, fmt.Errorf("share in place %d: %w", i+1, err)
		}
		twice := false
		for _, x := range shares {
			if x.Set != s.Set || x.Of != s.Of || x.Needed != s.Needed || len(x.values) != len(s.values) {
				secret.Wipe(s.values)
				return nil, fmt.Errorf("%w: the one in place %d is of another set", ErrShares, i+1)
			}
			twice = twice || x.Number == s.Number
		}
		if !twice {
			shares = append(shares, s)
		}
	}
	if len(shares) == 0 || len(shares) < shares[0].Needed {
		return nil, tooFew(shares)
	}
	return combine(shares)
}

func tooFew(shares []share) error {
	if len(shares) == 0 {
		return ErrTooFew
	}
	return fmt.Errorf("%w: there are %d, needed are %d of %d", ErrTooFew, len(shares), shares[0].Needed, shares[0].Of)
}

func combine(shares []share) ([]byte, error) {
	t := uint(shares[0].Needed - 1)
	padded := make([]byte, 0, len(shares[0].values)/scalarSize*pieceSize)
	defer func() { secret.Wipe(padded[:cap(padded)]) }()
	for at := 0; at < len(shares[0].values); at += scalarSize {
		points := make([]secretsharing.Share, len(shares))
		for i, s := range shares {
			points[i] = secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(s.Number)), Value: group.Ristretto255.NewScalar()}
			if err := points[i].Value.UnmarshalBinary(s.values[at : at+scalarSize]); err != nil {
				return nil, fmt.Errorf("%w: share %d holds no number", ErrDamaged, s.Number)
			}
		}
		piece, err := secretsharing.Recover(t, points)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrShares, err)
		}
		b, err := piece.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrShares, err)
		}
		padded = append(padded, b[:pieceSize]...)
		last := b[pieceSize]
		secret.Wipe(b)
		if last != 0 {
			return nil, fmt.Errorf("%w: one of them was changed", ErrShares)
		}
	}
	return unpad(padded)
}

// pad puts the length before a secret and its hash behind it, and fills up the last piece with zeros.
func pad(s []byte) []byte {
	sum := sha256.Sum256(s)
	n := 2 + len(s) + digestSize
	b := make([]byte, (n+pieceSize-1)/pieceSize*pieceSize)
	binary.BigEndian.PutUint16(b, uint16(len(s)))
	copy(b[2:], s)
	copy(b[2+len(s):], sum[:digestSize])
	return b
}

func unpad(b []byte) ([]byte, error) {
	changed := fmt.Errorf("%w: one of them was changed", ErrShares)
	if len(b) < 2 {
		return nil, changed
	}
	n := int(binary.BigEndian.Uint16(b))
	if 2+n+digestSize > len(b) {
		return nil, changed
	}
	s := b[2 : 2+n]
	sum := sha256.Sum256(s)
	if subtle.ConstantTimeCompare(sum[:digestSize], b[2+n:2+n+digestSize]) != 1 {
		return nil, changed
	}
	return bytes.Clone(s), nil
}
