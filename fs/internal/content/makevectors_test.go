package content

import (
	"fmt"
	"slices"
)

// maker collects vectors.
type maker struct{ all []*vector }

// generate makes all vectors. Each has one failure; the bytes of a vector depend on its name alone.
func generate() []*vector {
	var m maker
	m.sizes()
	m.conversion()
	m.zeros()
	m.shortInner()
	m.headers()
	m.keys()
	m.bits()
	m.fields()
	m.cuts()
	m.places()
	return m.all
}

func (m *maker) add(v *vector) {
	v.keyID, v.key = vectorKeyID, vectorKey
	m.all = append(m.all, v)
}

// good adds a file that reads as plain.
func (m *maker) good(name, rule, what string, stored, plain []byte) {
	m.add(&vector{name: name, rule: rule, what: what, expect: ok, size: len(plain), sum: hexSum(plain), stored: stored})
}

// damaged adds a file that reads as plain but for the bad blocks.
func (m *maker) damaged(name, rule, what string, stored, plain []byte, bad ...int) {
	var rest []byte
	for no, p := range split(plain) {
		if !slices.Contains(bad, no) {
			rest = append(rest, p...)
		}
	}
	m.add(&vector{name: name, rule: rule, what: what, expect: corrupt, size: len(plain), bad: bad, sum: hexSum(rest), stored: stored})
}

// refuse adds a file of which nothing can be read.
func (m *maker) refuse(name, rule, what, expect string, stored []byte) {
	m.add(&vector{name: name, rule: rule, what: what, expect: expect, stored: stored})
}

var layouts = map[byte]string{writeOnce: "wo", padded: "pad"}

func (m *maker) sizes() {
	m.good("size-0", "C2", "an empty file", nil, nil)
	for _, l := range []byte{writeOnce, padded} {
		for _, n := range []int{1, 2, 4009, 4010, 4011, 5000, 8075, 8076, 8077, 12142, 12143} {
			name := fmt.Sprintf("size-%s-%d", layouts[l], n)
			f := newForger(name)
			plain := f.random(n)
			m.good(name, "C7 C8", fmt.Sprintf("%d bytes of plaintext", n), f.file(l, plain), plain)
		}
	}
}

// conversion adds the states that C10 goes through.
func (m *maker) conversion() {
	for _, n := range []int{1, 4009, 4010, 5000, 8076, 9000} {
		name := func(step string) string { return fmt.Sprintf("convert-%d-%s", n, step) }
		f := newForger(name("steps"))
		plain := f.random(n)
		blocks := f.blocks(writeOnce, plain)
		last := len(blocks) - 1
		size := len(join(blocks...))
		if size%4096 != 0 {
			m.good(name("1-filled"), "C10", "write-once, final last block followed by zeros", filled(join(blocks...)), plain)
		}
		if last > 0 {
			blocks[0] = f.full(0, f.header(padded), split(plain)[0])
			m.good(name("2-header"), "C10", "padded header, final last block, filled", filled(join(blocks...)), plain)
			m.good(name("2-cut"), "C10", "padded header, final last block at the end of the file", join(blocks...), plain)
			m.good(name("2-torn"), "C9 C10", "padded header, final last block, filled, then a zero block", append(filled(join(blocks...)), zeroBlocks(1)...), plain)
		}
		blocks[last] = f.full(last, f.header(padded), split(plain)[last])
		m.good(name("3-padded"), "C10", "all steps done", join(blocks...), plain)
	}
	f := newForger("convert-lost-header")
	plain := f.random(5000)
	blocks := f.blocks(writeOnce, plain)
	blocks[1] = f.full(1, f.header(padded), plain[4010:])
	m.refuse("convert-out-of-order", "C7 C10", "last block padded before the header", refused, join(blocks...))
}

func (m *maker) zeros() {
	for _, n := range []int{1, 3} {
		m.good(fmt.Sprintf("zeros-only-%d", n), "C9", "nothing but torn appends", zeroBlocks(n), nil)
		for _, size := range []int{4010, 4011, 8076} {
			name := fmt.Sprintf("zeros-behind-pad-%d-%d", size, n)
			f := newForger(name)
			plain := f.random(size)
			m.good(name, "C9", "torn appends behind a padded file", append(f.file(padded, plain), zeroBlocks(n)...), plain)
		}
	}
	f := newForger("zeros-behind-wo")
	plain := f.random(8076)
	m.good("zeros-behind-wo-8076", "C9", "zero block behind a write-once file with full blocks", append(f.file(writeOnce, plain), zeroBlocks(1)...), plain)
	m.good("zeros-behind-wo-filled", "C9 C10", "write-once, filled, then a zero block", append(filled(f.file(writeOnce, plain[:5000])), zeroBlocks(1)...), plain[:5000])

	for _, n := range []int{1, 100, 4095, 4097, 5000} {
		m.refuse(fmt.Sprintf("zeros-odd-%d", n), "C3 C9", "zeros, but no whole blocks of them", refused, make([]byte, n))
	}
	m.refuse("zeros-odd-behind-pad", "C8 C9", "100 zero bytes behind a padded file", refused, append(f.file(padded, plain), make([]byte, 100)...))
	m.refuse("zeros-odd-behind-wo", "C7", "one zero byte behind a write-once file", refused, append(f.file(writeOnce, plain[:5000]), 0))
	m.refuse("zeros-almost-filled", "C7 C10", "zeros short of the block edge behind a write-once file", refused, filled(f.file(writeOnce, plain[:5000]))[:8191])

	long := f.random(15000)
	for _, l := range []byte{writeOnce, padded} {
		blocks := f.blocks(l, long)
		blocks[2] = zeroBlocks(1)
		m.damaged("zeros-inner-"+layouts[l], "C9", "an inner block of zeros", join(blocks...), long, 2)
		blocks = f.blocks(l, long)
		blocks[0] = zeroBlocks(1)
		m.refuse("zeros-first-"+layouts[l], "C3", "block 0 is zeros", refused, join(blocks...))
	}
	blocks := f.blocks(padded, long)
	m.good("zeros-last-pad", "C9", "last block of a padded file is zeros: a torn append", join(blocks[0], blocks[1], blocks[2], zeroBlocks(1)), long[:start(3)])
	blocks = f.blocks(writeOnce, long)
	m.refuse("zeros-last-wo", "C7 C9", "last block of a write-once file is zeros", refused, join(blocks[0], blocks[1], blocks[2], zeroBlocks(1)))
	m.refuse("zeros-last-wo-short", "C4 C7", "short last block of a write-once file is zeros", refused, join(blocks[0], blocks[1], blocks[2], make([]byte, len(blocks[3]))))
}

// shortInner adds padded files whose inner blocks have less payload than they can hold.
func (m *maker) shortInner() {
	for _, tt := range []struct {
		name  string
		parts []int
	}{{"first", []int{100, 4066, 50}}, {"inner", []int{4010, 1, 50}}, {"inner-by-one", []int{4010, 4065, 50}}, {"all", []int{1, 1, 1}}} {
		name := "short-" + tt.name
		f := newForger(name)
		h := f.header(padded)
		var stored, plain []byte
		for no, n := range tt.parts {
			payload := f.random(n)
			stored = append(stored, f.full(no, h, payload)...)
			plain = append(plain, payload...)
			if no < len(tt.parts)-1 {
				plain = append(plain, make([]byte, capacity(no)-n)...)
			}
		}
		m.good(name, "C8", "a block of a padded file that a crash left short reads as zeros behind its payload", stored, plain)
	}
}

func (m *maker) headers() {
	f := newForger("header")
	plain := f.random(9000)
	small := plain[:100]
	for _, l := range []byte{writeOnce, padded} {
		file := f.file(l, small)
		for i := range 4 {
			m.refuse(fmt.Sprintf("magic-%s-byte-%d", layouts[l], i), "C3", "wrong magic", refused, flipped(file, i, 0x20))
		}
		for _, v := range []byte{0, 2, 255} {
			m.refuse(fmt.Sprintf("version-%s-%d", layouts[l], v), "F1", "another version", unsupported, flipped(file, 4, v^1))
		}
		other := flipped(f.file(l, plain), 4, 3)
		m.refuse("version-"+layouts[l]+"-large", "F1", "another version, several blocks", unsupported, other)
		m.refuse("version-"+layouts[l]+"-cut", "F1", "another version, cut", unsupported, other[:4100])
		m.refuse("version-"+layouts[l]+"-zeros", "F1", "another version, then zero blocks", unsupported, append(filled(other), zeroBlocks(2)...))
	}
	m.refuse("version-short", "F1", "another version and nothing else", unsupported, []byte("mcfs\x02"))
	strange := append([]byte("mcfs\x02"), f.random(4091)...)
	m.refuse("version-rest-random", "F1", "another version, nothing else like version 1", unsupported, strange)

	for _, layout := range []byte{0, 3, 255} {
		h := f.header(layout)
		m.refuse(fmt.Sprintf("layout-%d", layout), "C3", "unknown layout, sealed as such", refused, f.final(0, h, small))
	}
	for _, at := range []int{6, 7} {
		h := f.header(padded)
		h[at] = 1
		m.refuse(fmt.Sprintf("reserved-%d", at), "C3", "reserved byte not zero, sealed as such", refused, f.full(0, h, small))
	}
	m.damaged("layout-wo-to-pad", "C6 C10", "layout changed to padded", flipped(f.file(writeOnce, plain), 5, 3), plain, 0)
	m.damaged("layout-wo-to-pad-small", "C6 C10", "layout changed to padded, one block", flipped(f.file(writeOnce, small), 5, 3), small, 0)
	m.refuse("layout-pad-to-wo", "C7", "layout changed to write-once", refused, flipped(f.file(padded, plain), 5, 3))
}

func (m *maker) keys() {
	f := newForger("keys")
	plain := f.random(9000)
	for _, l := range []byte{writeOnce, padded} {
		name := layouts[l]
		m.damaged("salt-"+name, "C6", "one bit of the salt changed", flipped(f.file(l, plain), 24, 1), plain, 0, 1, 2)
		m.damaged("salt-end-"+name, "C6", "last bit of the salt changed", flipped(f.file(l, plain), 55, 1), plain, 0, 1, 2)
		m.refuse("key-id-"+name, "C12", "one bit of the key id changed", unknownKey, flipped(f.file(l, plain), 8, 0x80))
		m.refuse("key-id-end-"+name, "C12", "last bit of the key id changed", unknownKey, flipped(f.file(l, plain), 23, 1))

		other := newForger("keys of another")
		other.key, other.id = otherKey, otherKeyID
		m.refuse("key-other-"+name, "C12", "a file under another content key", unknownKey, other.file(l, plain))
		other.id = vectorKeyID
		m.damaged("key-wrong-"+name, "C6", "the key id of one content key, sealed under another", other.file(l, plain), plain, 0, 1, 2)
		damaged := newForger("keys of another, damaged")
		damaged.key, damaged.id = otherKey, otherKeyID
		m.refuse("key-other-damaged-"+name, "C12", "unknown content key, and a tag that nobody can judge", unknownKey, flipped(damaged.file(l, plain), 4090, 1))
	}
}

// bits changes one bit in each part of each record.
func (m *maker) bits() {
	f := newForger("bits")
	plain := f.random(9000)
	for _, l := range []byte{writeOnce, padded} {
		file := f.file(l, plain)
		for no, place := range []string{"first", "inner", "last"} {
			record := fieldAt(no) - 12
			end := min(len(file), (no+1)*4096)
			for _, p := range []struct {
				part string
				at   int
				bit  byte
			}{
				{"nonce", record, 0x80}, {"nonce-end", record + 11, 1},
				{"text", record + 14, 1}, {"text-end", end - 17, 0x80},
				{"tag", end - 16, 0x80}, {"tag-end", end - 1, 1},
			} {
				name := fmt.Sprintf("bit-%s-%s-%s", layouts[l], place, p.part)
				m.damaged(name, "C6 C9", "one bit changed: "+p.part+" of the "+place+" block", flipped(file, p.at, p.bit), plain, no)
			}
		}
	}
	small := plain[:50]
	file := f.file(padded, small)
	m.damaged("bit-pad-padding", "C6", "one bit changed in the encrypted padding", flipped(file, 2000, 4), small, 0)
	converted := filled(f.file(writeOnce, plain))
	m.refuse("fill-not-zero", "C10", "a bit set behind the final block", refused, flipped(converted, len(converted)-1, 1))
	end := len(f.file(writeOnce, plain))
	m.refuse("fill-not-zero-first", "C10", "a bit set right behind the final block", refused, flipped(converted, end, 0x80))
	inner := flipped(f.file(padded, plain), 2*4096-1, 1)
	m.damaged("bit-and-torn", "C9", "a changed tag, and a torn append behind", append(inner, zeroBlocks(1)...), plain, 1)
}

// fields changes lengths and final marks, with tags that do not fit and with tags that do.
func (m *maker) fields() {
	f := newForger("fields")
	plain := f.random(9000) // blocks of 4010, 4066, 924
	pad, wo := f.file(padded, plain), f.file(writeOnce, plain)

	for _, n := range []uint16{0, 1, 4065, 4067, 0x7fff, finalMark, finalMark | 4066, 0xffff} {
		m.damaged(fmt.Sprintf("field-inner-%04x", n), "C4 C9", "field of an inner block changed", withField(pad, 1, n), plain, 1)
	}
	m.damaged("field-first-0fab", "C4 C9", "length of block 0 beyond its capacity", withField(pad, 0, 4011), plain, 0)
	m.damaged("field-first-wo-0000", "C4 C9", "length of block 0 is zero", withField(wo, 0, 0), plain, 0)

	for _, n := range []uint16{0, 4067, 0x7fff, finalMark, 0xffff} {
		m.refuse(fmt.Sprintf("field-last-%04x", n), "C4 C8", "field of the last block of a padded file is impossible", refused, withField(pad, 2, n))
	}
	m.refuse("field-last-final", "C10", "final mark set on the last block of a padded file", refused, withField(pad, 2, finalMark|924))
	m.damaged("field-last-final-full", "C6", "final mark set on a full last block", withField(pad[:8192], 1, finalMark|4066), plain[:8076], 1)
	m.damaged("field-last-plus-1", "C6 C8", "length of the last block changed", withField(pad, 2, 925), append(slices.Clone(plain), 0), 2)
	m.damaged("field-last-minus-1", "C6 C8", "length of the last block changed", withField(pad, 2, 923), plain[:8999], 2)
	m.refuse("field-wo-last-plus-1", "C7", "length of the final block larger than what is there", refused, withField(wo, 2, finalMark|925))
	m.refuse("field-wo-last-minus-1", "C7", "length of the final block smaller than what is there", refused, withField(wo, 2, finalMark|923))
	m.refuse("field-wo-last-open", "C7", "final mark taken away", refused, withField(wo, 2, 924))

	h := f.header(padded)
	parts := split(plain)
	blocks := f.blocks(padded, plain)
	replace := func(no int, b []byte) []byte {
		out := slices.Clone(blocks)
		out[no] = b
		return join(out...)
	}
	text := func(no, payload int, rest byte) []byte {
		b := make([]byte, capacity(no))
		copy(b, parts[no])
		for i := payload; i < len(b); i++ {
			b[i] = rest
		}
		return b
	}
	for no, place := range []string{"first", "inner", "last"} {
		b := text(no, 100, 0)
		b[len(b)-1] = 1
		stored := replace(no, f.seal(no, h, 100, b))
		if no == 2 {
			m.damaged("padding-"+place, "C5", "padding that is not zero, sealed as such", stored, plain[:start(2)+100], no)
		} else {
			m.damaged("padding-"+place, "C5", "padding that is not zero, sealed as such", stored, plain, no)
		}
	}
	b := text(1, 4066, 0)
	b[100] = 7
	clear(b[101:])
	m.damaged("padding-first-byte", "C5", "first byte of the padding not zero, sealed as such", replace(1, f.seal(1, h, 100, b)), plain, 1)
	m.damaged("sealed-length-0", "C4", "length zero, sealed as such", replace(1, f.seal(1, h, 0, text(1, 0, 0))), plain, 1)
	m.damaged("sealed-length-4067", "C4", "length beyond the capacity, sealed as such", replace(1, f.seal(1, h, 4067, text(1, 4066, 0))), plain, 1)
	m.refuse("sealed-length-0-last", "C4", "length zero in the last block, sealed as such", refused, replace(2, f.seal(2, h, 0, text(2, 0, 0))))
	m.refuse("sealed-length-4067-last", "C4", "length beyond the capacity in the last block, sealed as such", refused, replace(2, f.seal(2, h, 4067, text(2, 4066, 0))))
	m.damaged("sealed-final-inner", "C7 C8", "an inner block that is final", replace(1, f.final(1, h, parts[1])), plain, 1)
	m.damaged("sealed-final-inner-short", "C7 C8", "an inner block that is final, short and followed by zeros", replace(1, filled(f.final(1, h, parts[1][:77]))), plain, 1)
	m.damaged("sealed-final-first", "C7 C8", "block 0 of several is final", replace(0, f.final(0, h, parts[0])), plain, 0)

	woh := f.header(writeOnce)
	m.refuse("wo-open-1", "C7", "write-once with one block that is not final", refused, f.full(0, woh, parts[0]))
	m.refuse("wo-open-1-short", "C7", "write-once with one padded block", refused, f.full(0, woh, parts[0][:100]))
	m.refuse("wo-open-2", "C7", "write-once with two blocks, neither final", refused, join(f.full(0, woh, parts[0]), f.full(1, woh, parts[1])))
	m.refuse("wo-open-torn", "C7 C9", "write-once that was never finished, and a torn append", refused, join(f.full(0, woh, parts[0]), zeroBlocks(1)))
}

func (m *maker) cuts() {
	f := newForger("cuts")
	plain := f.random(9000)
	wo := f.file(writeOnce, plain) // 9146 bytes
	for _, n := range []int{
		1, 3, 4, 5, 6, 8, 24, 55, 56, 57, 68, 69, 70, 71, 86, 87, 4095, 4096,
		4097, 4108, 4110, 4126, 4127, 8191, 8192, 8193, 8222, 8223, len(wo) - 1,
	} {
		m.refuse(fmt.Sprintf("cut-wo-%d", n), "C7", "a write-once file that lost its end", refused, wo[:n])
	}
	m.refuse("grown-wo", "C7", "a byte behind a write-once file", refused, append(slices.Clone(wo), 0xee))
	m.refuse("grown-wo-block", "C7 C9", "a block of rubbish behind a filled write-once file", refused, append(filled(wo), f.random(4096)...))
	one := f.file(writeOnce, plain[:1]) // 87 bytes
	m.refuse("cut-wo-small-86", "C7", "the smallest write-once file less one byte", refused, one[:86])
	m.refuse("cut-wo-small-56", "C7", "a header alone", refused, one[:56])

	pad := f.file(padded, plain)
	for _, n := range []int{87, 4095, 4097, 8191, 12287} {
		m.refuse(fmt.Sprintf("cut-pad-%d", n), "C8", "a padded file cut within a block", refused, pad[:n])
	}
	m.good("cut-pad-4096", "C8", "blocks cut from the end of a padded file: not detected (section 7)", pad[:4096], plain[:4010])
	m.good("cut-pad-8192", "C8", "a block cut from the end of a padded file: not detected (section 7)", pad[:8192], plain[:8076])
	m.good("cut-wo-0", "C2", "a file cut to nothing is an empty file", nil, nil)
}

// places moves blocks about.
func (m *maker) places() {
	for _, l := range []byte{writeOnce, padded} {
		f, name := newForger("places "+layouts[l]), layouts[l]
		plain := f.random(16000) // 4 blocks
		b := f.blocks(l, plain)
		m.damaged("swap-1-2-"+name, "C6", "two blocks swapped", join(b[0], b[2], b[1], b[3]), plain, 1, 2)
		m.refuse("swap-0-1-"+name, "C3", "block 0 and 1 swapped", refused, join(b[1], b[0], b[2], b[3]))
		m.damaged("copy-1-2-"+name, "C6", "a block in the place of another", join(b[0], b[1], b[1], b[3]), plain, 2)
		gone := slices.Concat(plain[:start(1)], make([]byte, 4066), plain[start(3):])
		m.damaged("lost-1-"+name, "C6", "a block is missing", join(b[0], b[2], b[3]), gone, 1, 2)

		other := newForger("places of another file")
		stranger := other.blocks(l, plain)
		m.damaged("foreign-inner-"+name, "C6", "a block of another file under the same content key", join(b[0], stranger[1], b[2], b[3]), plain, 1)
		m.damaged("foreign-last-"+name, "C6", "the last block of another file", join(b[0], b[1], b[2], stranger[3]), plain, 3)
		m.damaged("foreign-first-"+name, "C6", "block 0 of another file", join(stranger[0], b[1], b[2], b[3]), plain, 1, 2, 3)

		h := f.header(l)
		payload := f.random(4066)
		old := f.full(1, h, payload)
		mixed := slices.Concat(plain[:start(1)], payload, plain[start(2):])
		m.good("old-inner-"+name, "C6", "an older version of the same block: not detected (section 7)", join(b[0], old, b[2], b[3]), mixed)
	}
	f := newForger("places far")
	h := f.header(padded)
	parts := split(f.random(9000))
	far := f.seal(1<<32|1, h, 4066, parts[1])
	m.damaged("far-block", "C6", "a block sealed for number 2^32 + 1", join(f.full(0, h, parts[0]), far, f.full(2, h, parts[2])), slices.Concat(parts...), 1)
	first := f.seal(1, h, 4010, parts[0])
	m.damaged("block-as-first", "C6", "block 0 sealed with the associated data of block 1",
		join(h, first, f.full(1, h, parts[1]), f.full(2, h, parts[2])), slices.Concat(parts...), 0)
}
