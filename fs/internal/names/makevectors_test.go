package names

import (
	"bytes"
	"strings"
)

type namer struct {
	forge
	out []vector
}

func (n *namer) name(rule, comment, result, stored string, side []byte, name string) {
	n.out = append(n.out, vector{Comment: comment, Rule: rule, Do: "name", Result: result, Stored: []byte(stored), Side: side, Name: []byte(name)})
}

// damaged adds a name that is shown as it is stored (N9).
func (n *namer) damaged(rule, comment, stored string, side []byte) {
	n.name(rule, comment, "damaged", stored, side, stored)
}

func (n *namer) root(rule, comment, result, stored, name string) {
	n.name(rule, comment, result, stored, nil, name)
	n.out[len(n.out)-1].Root = true
}

func generate() []vector {
	n := namer{forge: newForge()}
	n.shortNames()
	n.longNames()
	n.otherNames()
	n.targets()
	n.attrs()
	return n.out
}

const sample = "1700000000.M1P2.mail,S=100:2,S"

func (n *namer) shortNames() {
	for _, name := range []string{"a", "cur", sample, "Großbuchstaben", "\xff\xfe\n\x01", "...", " ", "mc1=AAAA", ".mailcryptfs",
		strings.Repeat("x", 171), strings.Repeat("y", 172)} {
		n.name("N2 N3", "short name", "encrypted", n.short(name), nil, name)
	}
	good := n.short(sample)
	for _, at := range []int{4, 10, 25, 26, 40, len(good) - 2} {
		n.damaged("N2", "one character changed", replaced(good, at), nil)
	}
	n.damaged("N2", "cut", good[:len(good)-1], nil)
	n.damaged("N2", "cut to the tag", good[:4+22], nil)
	n.damaged("N2", "nothing but the mark", "mc1=", nil)
	n.damaged("N2", "tag alone", "mc1="+encode64(n.sum("mailcryptfs name v1\x00", "")[:16]), nil)
	n.damaged("N2", "longer by a character", good+"A", nil)
	n.damaged("b64url", "padded", n.short("ab")+"=", nil)
	n.damaged("b64url", "unused bits set, 16 + 3 bytes", nonCanonical(n.short("abc")), nil)
	n.damaged("b64url", "unused bits set, 16 + 1 bytes", nonCanonical(n.short("a")), nil)
	n.damaged("b64url", "standard alphabet", "mc1="+strings.NewReplacer("-", "+", "_", "/").Replace(encode64(append(n.seal("mailcryptfs name v1\x00", sample), 0xfb, 0xff, 0xbf))), nil)
	for _, c := range []string{"\n", "\r", " ", ".", "é"} {
		n.damaged("b64url", "a character that is none: "+encode64([]byte(c)), good[:20]+c+good[20:], nil)
		n.damaged("b64url", "a character that is none at the end: "+encode64([]byte(c)), good+c, nil)
	}
	n.damaged("N2", "sealed as a symbolic link's target", n.target(sample), nil)
	n.damaged("N1", "opens to a name with a slash", n.short("a/b"), nil)
	n.damaged("N1", "opens to a name with a zero byte", n.short("a\x00b"), nil)
	n.damaged("N1", "opens to .", n.short("."), nil)
	n.damaged("N1", "opens to ..", n.short(".."), nil)
	n.damaged("N3", "a long name in short form", n.short(strings.Repeat("z", 173)), nil)
}

func (n *namer) longNames() {
	for _, length := range []int{173, 174, 254, 255} {
		name := strings.Repeat("l", length)
		stored, side := n.long(name)
		n.name("N4", "long name", "long", stored, side, name)
		n.name("N4", "side entry", "hidden", stored+".n", nil, "")
	}
	name := strings.Repeat("l", 200)
	stored, side := n.long(name)
	_, other := n.long(strings.Repeat("l", 201))
	flip := bytes.Clone(side)
	flip[30] ^= 1
	shortStored, shortSide := n.long(strings.Repeat("s", 172))
	tooStored, tooSide := n.long(strings.Repeat("s", 256))
	slashStored, slashSide := n.long(strings.Repeat("s", 200) + "/")
	n.damaged("N4", "side entry missing", stored, nil)
	n.damaged("N4", "side entry empty", stored, []byte{})
	n.damaged("N4", "side entry cut", stored, side[:len(side)-1])
	n.damaged("N4", "side entry longer by a byte", stored, append(bytes.Clone(side), 0))
	n.damaged("N4", "side entry with one bit changed", stored, flip)
	n.damaged("N4", "side entry of another name", stored, other)
	n.damaged("N4", "side entry of a name of 172 bytes", shortStored, shortSide)
	n.damaged("N4", "side entry of a name of 256 bytes", tooStored, tooSide)
	n.damaged("N1 N4", "side entry of a name with a slash", slashStored, slashSide)
	n.damaged("N4", "side entry is a target", stored, n.seal("mailcryptfs symlink v1\x00", name))
	n.damaged("N4", "one character changed", replaced(stored, 20), side)
	n.damaged("N4", "42 characters", stored[:46], side)
	n.damaged("N4", "44 characters", stored+"A", side)
	n.damaged("b64url", "unused bits set", nonCanonical(stored), side)
	n.damaged("b64url", "43 characters, one of them a newline", stored[:20]+"\n"+stored[21:], side)
	n.damaged("b64url", "43 characters and a newline", stored+"\n", side)
	n.damaged("N4", "side entry with unused bits set in its name", nonCanonical(stored)+".n", nil)
	n.damaged("N4", "side entry with 42 characters", stored[:46]+".n", nil)
	n.damaged("N4", "another suffix", stored+".m", nil)
	n.damaged("N4", "suffix twice", stored+".n.n", nil)
	n.damaged("N4", "nothing but the mark", "mc1+", nil)
	n.damaged("N4", "nothing but mark and suffix", "mc1+.n", nil)
	n.damaged("N3", "a short name in long form", "mc1+"+n.short(sample)[4:], nil)
}

func (n *namer) otherNames() {
	for _, name := range []string{"cur", ".", "mc", "mc1", "mc=x", "mc11=x", "MC1=x", "mc1-x", "mca=x", "xmc1=x", "mc1", "m", ".mailcryptfs.x", "\xff"} {
		if Check(name) == nil {
			n.name("N7", "plain entry", "plain", name, nil, name)
		}
	}
	n.root("K7", "directory of key records", "hidden", ".mailcryptfs", "")
	n.name("N7", "the same name below the root", "plain", ".mailcryptfs", nil, ".mailcryptfs")
	n.root("N7", "plain entry in the root", "plain", "alice", "alice")
	for _, name := range []string{"cur", sample, "mc1=AAAA", "mc1~x", "mc2=x", ".mailcryptfs", strings.Repeat("p", 251), "\xff\n"} {
		n.name("N6", "plain-named entry", "plain-named", "mc1~"+name, nil, name)
	}
	for _, name := range []string{"AAAAAAAAAAAAAAAAAAAAAA", "", "anything at all", "\xff"} {
		n.name("N12", "temporary file", "hidden", "mc1!"+name, nil, "")
	}
	for _, name := range []string{"", ".", ".."} {
		n.damaged("N1 N6", "plain-named without a name", "mc1~"+name, nil)
	}
	for _, d := range "023456789" {
		for _, mark := range "=+~!" {
			stored := "mc" + string(d) + string(mark) + "AAAA"
			n.name("N9", "another version", "unsupported", stored, nil, stored)
		}
	}
	long, _ := n.long(strings.Repeat("l", 200))
	n.name("N9", "side entry of another version", "unsupported", "mc2"+long[3:]+".n", nil, "mc2"+long[3:]+".n")
	n.name("N9", "another version, nothing else", "unsupported", "mc2=", nil, "mc2=")
}

func (n *namer) targets() {
	add := func(rule, comment, result, stored, target string) {
		n.out = append(n.out, vector{Comment: comment, Rule: rule, Do: "target", Result: result, Stored: []byte(stored), Name: []byte(target)})
	}
	for _, target := range []string{"a", "../cur/mail", "/var/mail", "\xff", strings.Repeat("t", 172), strings.Repeat("t", 173), strings.Repeat("t", 3050)} {
		add("N10", "target", "ok", n.target(target), target)
	}
	good := n.target("../cur/mail")
	add("N10", "one character changed", "refused", replaced(good, 30), "")
	add("N10", "cut", "refused", good[:len(good)-2], "")
	add("N10", "sealed as a name", "refused", n.short("a"), "")
	add("N10", "not sealed", "refused", "../cur/mail", "")
	add("N10", "empty", "refused", "mc1="+encode64(n.sum("mailcryptfs symlink v1\x00", "")[:16]), "")
	add("b64url", "a newline", "refused", good[:20]+"\n"+good[20:], "")
	add("b64url", "unused bits set", "refused", nonCanonical(n.target("a")), "")
	add("N10", "another mark", "refused", "mc1+"+good[4:], "")
	add("N10", "another version", "refused", "mc2="+good[4:], "")
}

func (n *namer) attrs() {
	add := func(rule, comment, result, stored string, sealed []byte, name, value string) {
		n.out = append(n.out, vector{Comment: comment, Rule: rule, Do: "xattr", Result: result, Stored: []byte(stored), Value: sealed, Name: []byte(name), Plain: []byte(value)})
	}
	for _, a := range [][2]string{{"dovecot", "guid"}, {"empty", ""}, {"x", strings.Repeat("v", 2000)}, {"mc1.x", "y"}} {
		stored, sealed := n.attr(a[0], a[1])
		add("X1", "attribute", "ok", stored, sealed, a[0], a[1])
	}
	stored, sealed := n.attr("dovecot", "guid")
	other, _ := n.attr("dovecoT", "guid")
	for _, at := range []int{0, 11, 12, 15, 16, len(sealed) - 1} {
		bad := bytes.Clone(sealed)
		bad[at] ^= 1
		add("X1", "one bit of the value changed", "refused", stored, bad, "", "")
	}
	add("X1", "value cut", "refused", stored, sealed[:len(sealed)-1], "", "")
	add("X1", "value without a byte of ciphertext or tag", "refused", stored, sealed[:12], "", "")
	add("X1", "value too short for a tag", "refused", stored, sealed[:27], "", "")
	add("X1", "no value", "refused", stored, nil, "", "")
	add("X1", "value of another attribute", "refused", other, sealed, "", "")
	add("X1", "name changed", "refused", replaced(stored, 15), sealed, "", "")
	add("X1", "name sealed as a name", "refused", "user.mc1."+n.short("dovecot")[4:], sealed, "", "")
	add("b64url", "name with a newline", "refused", stored[:20]+"\n"+stored[20:], sealed, "", "")
	one, v := n.attr("x", "y")
	add("b64url", "name with unused bits set", "refused", nonCanonical(one), v, "", "")
}
