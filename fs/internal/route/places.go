package route

import (
	"slices"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// Partition returns the path below the root of the view under which PathsOf looks:
// that of Cyrus' partitions, where "*" stands for any directory; nothing for other
// profiles.
func (p *Policy) Partition() []string { return p.partition }

// Structured reports whether directories' owners follow from Cyrus' structure: then
// Dir.Box can be true, and Scratch directories exist.
func (p *Policy) Structured() bool { return p.cyrus }

// PathsOf returns the paths, below that of a partition, at which directories of user
// u may begin, but those that a header tells; none for a user whom the template
// cannot name.
func (p *Policy) PathsOf(u account.User, partition []string) [][]string {
	var candidates [][]string
	if p.cyrus {
		candidates = cyrusPaths(string(u))
	} else {
		candidates = [][]string{p.templated(u)}
	}
	var out [][]string
	for _, c := range candidates {
		d, path := p.Root(), slices.Concat(partition, c)
		for _, name := range path {
			d = d.Child(name)
		}
		if d.User() == u {
			out = append(out, path)
		}
	}
	return out
}

// ScratchPaths returns the paths, below that of a partition, of directories whose
// content dies with the process.
func (p *Policy) ScratchPaths(partition []string) [][]string {
	if !p.cyrus {
		return nil
	}
	return [][]string{slices.Concat(partition, []string{stageName}), slices.Concat(partition, []string{syncName})}
}

// UUIDPath returns the path, below that of a partition, of the directories with
// headers, three levels down; ok is false where there are none.
func (p *Policy) UUIDPath(partition []string) (path []string, ok bool) {
	return slices.Concat(partition, []string{uuidName}), p.cyrus
}

// cyrusPaths returns the directories of a user in a partition, with and without
// virtual domains and spreading by a letter.
func cyrusPaths(user string) [][]string {
	var out [][]string
	add := func(base []string, name string) {
		component := strings.ReplaceAll(name, ".", "^")
		for _, h := range hashes(name) {
			out = append(out, slices.Concat(base, h, []string{userName, component}))
		}
		for _, h := range hashes(userName) {
			out = append(out, slices.Concat(base, h, []string{deleteName, userName, component}))
		}
	}
	add(nil, user)
	if name, domain, ok := cutLast(user, '@'); ok {
		for _, h := range hashes(domain) {
			add(slices.Concat([]string{domainName}, h, []string{domain}), name)
		}
	}
	return out
}

// hashes returns the directories that Cyrus may put before name: none, the letter of
// hashimapspool, or that of fulldirhash (dir_hash_c of Cyrus).
func hashes(name string) [][]string {
	first := byte('q')
	if name != "" && isLetter(name[:1]) {
		first = name[0] | 0x20
	}
	var full uint32
	for i := 0; i < len(name) && name[i] != '.'; i++ {
		full = full<<3 ^ full>>5 ^ uint32(name[i])
	}
	const letters = 23
	return [][]string{nil, {string(first)}, {string('A' + rune(full%letters))}}
}
