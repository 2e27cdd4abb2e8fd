package names

import "github.com/mailcryptfs/mailcryptfs/fs/internal/seal"

// Target returns the stored target of a symbolic link whose entry is s (N10).
func (c *Codec) Target(s Stored, target string) string {
	if s.Kind != Encrypted {
		return target
	}
	return c.encode(seal.SymlinkLabel, target)
}

// OpenTarget returns the view's target of a symbolic link whose entry is s (N10).
// The error is seal.ErrName.
func (c *Codec) OpenTarget(s Stored, stored string) (string, error) {
	if s.Kind != Encrypted {
		return stored, nil
	}
	return c.open(seal.SymlinkLabel, stored)
}

// TargetSize returns the size in the view of a symbolic link of kind k whose
// stored size is given (N10).
func TargetSize(k Kind, stored int64) int64 {
	if k != Encrypted {
		return stored
	}
	return max(0, (stored-int64(len(encPrefix)))*3/4-seal.SIVSize)
}

// SealXAttr returns the stored name of extended attribute name, without the
// "user.mc1." in front (X1).
func (c *Codec) SealXAttr(name string) string {
	return b64.EncodeToString(c.keys.Seal(nil, seal.XAttrLabel, name))
}

// OpenXAttr undoes SealXAttr. The error is seal.ErrName.
func (c *Codec) OpenXAttr(stored string) (string, error) {
	sealed, err := decode(nil, stored)
	if err != nil {
		return "", err
	}
	return c.keys.Open(seal.XAttrLabel, sealed)
}
