package memory

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Hits are how often a secret was found: in pages that the kernel keeps in memory and out of core dumps, and in others.
type Hits struct{ Locked, Loose int }

// mapping is a range of a process's memory.
type mapping struct {
	from, to int64
	path     string
	flags    []string // VmFlags of proc(5)
}

// mappings are the readable parts of a process's memory.
func mappings(t testing.TB, pid int) (all []mapping) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	must(t, err)
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok {
			all[len(all)-1].flags = strings.Fields(flags)
			continue
		}
		var m mapping
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to); err == nil {
			if len(fields) > 5 {
				m.path = fields[5]
			}
			all = append(all, m)
		}
	}
	return slices.DeleteFunc(all, func(m mapping) bool { return !slices.Contains(m.flags, "rd") || strings.HasPrefix(m.path, "[v") })
}

// Find searches all memory of a process, and tells how often it found each kind of secret.
func Find(t testing.TB, pid int, secrets []Secret) map[string]Hits {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer func() { _ = mem.Close() }()
	found, total := map[string]Hits{}, 0
	buf := make([]byte, 8<<20)
	for _, m := range mappings(t, pid) {
		safe := slices.Contains(m.flags, "lo") && slices.Contains(m.flags, "dd")
		const overlap = 4096
		for at := m.from; at < m.to; at += int64(len(buf)) - overlap {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), m.to-at)], at) // guard pages cannot be read
			total += n
			for _, x := range secrets {
				h := found[x.What]
				if c := bytes.Count(buf[:n], x.Bytes); safe {
					h.Locked += c
				} else {
					h.Loose += c
				}
				found[x.What] = h
			}
			if at+int64(n) >= m.to || n == 0 {
				break
			}
		}
	}
	if total < 10<<20 {
		t.Fatalf("only %d bytes of memory could be read", total)
	}
	return found
}
