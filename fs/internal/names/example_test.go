package names

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/fs/internal/seal"
)

// example is the worked example of FORMAT.md section 2.
func example(c *Codec) string {
	var b strings.Builder
	row := func(what, s string) {
		const width = 96
		for len(s) > width {
			fmt.Fprintf(&b, "%-13s %s\n", what, s[:width])
			what, s = "", s[width:]
		}
		fmt.Fprintf(&b, "%-13s %s\n", what, s)
	}
	f := newForge()
	row("MAC key", hex.EncodeToString(f.mac))
	row("enc. key", hex.EncodeToString(f.enc))
	const name = "1700000000.M1P2.mail:2,S"
	sealed := c.keys.Seal(nil, seal.NameLabel, name)
	row("view name", name)
	row("tag", hex.EncodeToString(sealed[:16]))
	row("ct", hex.EncodeToString(sealed[16:]))
	row("stored name", c.Encrypt(name).Name)
	long := strings.Repeat("long.", 40)
	s := c.Encrypt(long)
	h := c.keys.Hash(long)
	row("view name", "40 times \"long.\" (200 bytes)")
	row("h", hex.EncodeToString(h[:]))
	row("stored name", s.Name)
	row("side entry", s.Side())
	row("its content", hex.EncodeToString(c.SideContent(long)))
	row("link target", "../cur")
	row("stored target", c.Target(s, "../cur"))
	return b.String()
}

// TestExample checks the example in FORMAT.md against this package; the vectors check this package.
func TestExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newCodec(t, false)
	if want := "```\n" + example(c) + "```\n"; !strings.Contains(string(page), want) {
		t.Errorf("FORMAT.md does not have this example:\n%s", want)
	}
}
