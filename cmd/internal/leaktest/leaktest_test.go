package leaktest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

func forms(hits []Hit) map[string]int {
	all := map[string]int{}
	for _, h := range hits {
		all[h.Part+": "+h.Form] += h.Count
	}
	return all
}

// TestForms finds a marker in each form, whatever stands around it.
func TestForms(t *testing.T) {
	t.Parallel()
	markers := NewMarkers()
	s := NewSearcher(markers)
	m := markers[0]
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "xx" + m.Core + "yy", "plain text"},
		{"with more", m.Text(), "plain text"},
		{"quoted-printable", m.Core + "=C3=BC=3D", "quoted-printable"},
		{"upper case", strings.ToUpper(m.Core), "upper case"},
		{"UTF-16, little-endian", "a\x00" + strings.Join(strings.Split(m.Core, ""), "\x00") + "\x00", "UTF-16"},
		{"UTF-16, big-endian", "\x00a\x00" + strings.Join(strings.Split(m.Core, ""), "\x00"), "UTF-16"},
		{"hexadecimal", fmt.Sprintf("%x", "ab"+m.Text()), "hexadecimal"},
		{"part", m.Core[:len(m.Core)-1], ""},
		{"cut in two", m.Core[:10] + "\n" + m.Core[10:], ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := map[string]int{}
			if tt.want != "" {
				want["body: "+tt.want] = 1
			}
			if got := forms(s.Bytes([]byte(tt.text), "content", "x")); !maps.Equal(got, want) {
				t.Errorf("found %v, want %v", got, want)
			}
		})
	}
	for before := range 7 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("ü", before)[:before] + m.Core + "and more"))
		want := map[string]int{fmt.Sprintf("body: base64, alignment %d", before%3): 1}
		if got := forms(s.Bytes([]byte(text), "content", "x")); !maps.Equal(got, want) {
			t.Errorf("%d bytes before: found %v, want %v", before, got, want)
		}
	}
}

// TestBoundaries puts a marker at every place around the boundary of what is read at once.
func TestBoundaries(t *testing.T) {
	t.Parallel()
	markers := NewMarkers()
	s := NewSearcher(markers)
	long := base64Forms([]byte(markers[4].Core))[1]
	for off := chunk - 3; off < chunk+s.longest+3; off += 3 {
		b := bytes.Repeat([]byte{'.'}, 2*chunk+500)
		copy(b[off:], markers[1].Core)
		copy(b[2*chunk+100:], long)
		read := 0
		hits, err := s.Read(bytes.NewReader(b), "content", "x", s.Buffer(), func(n int) { read += n })
		if err != nil || read != len(b) || len(hits) != 2 || hits[0].At != int64(off) || hits[1].At != 2*chunk+100 {
			t.Fatalf("at %d: %+v, %v, %d bytes", off, hits, err, read)
		}
	}
	hits, err := s.Read(iotest.OneByteReader(strings.NewReader(markers[0].Core)), "content", "x", s.Buffer(), func(int) {})
	if err != nil || len(hits) != 1 {
		t.Errorf("%+v, %v", hits, err)
	}
	broken := errors.New("broken")
	hits, err = s.Read(io.MultiReader(strings.NewReader(markers[0].Core), iotest.ErrReader(broken)), "content", "x", s.Buffer(), func(int) {})
	if !errors.Is(err, broken) || len(hits) != 1 {
		t.Errorf("%+v, %v", hits, err)
	}
}

// TestMessage has every marker in the message, where it belongs.
func TestMessage(t *testing.T) {
	t.Parallel()
	markers := NewMarkers()
	b, err := Message(markers, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := forms(NewSearcher(markers).Bytes(b, "content", "x"))
	for _, want := range []string{"body: plain text", "body: quoted-printable", "subject: plain text", "sender: plain text"} {
		if got[want] == 0 {
			t.Errorf("no %s in %v", want, got)
		}
	}
	for _, part := range []string{"body", "attachment"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(got)), func(k string) bool { return strings.HasPrefix(k, part+": base64") }) {
			t.Errorf("no base64 of the %s in %v", part, got)
		}
	}
	for _, line := range strings.Split(string(b), "\n") {
		if len(line) > 200 {
			t.Errorf("a line of %d characters", len(line))
		}
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	markers := NewMarkers()
	dir := t.TempDir()
	core := func(i int) string { return markers[i].Core }
	for _, err := range []error{
		os.MkdirAll(dir+"/a/"+core(3)+"/view", 0o700),
		os.WriteFile(dir+"/a/content", []byte("..."+core(0)+core(0)), 0o600),
		os.WriteFile(dir+"/a/"+core(3)+"/view/x", []byte(core(0)), 0o600),
		os.Symlink("/to/"+core(1), dir+"/a/link"),
		unix.Mkfifo(dir+"/a/fifo", 0o600),
		os.WriteFile(dir+"/image", []byte(core(4)), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var hits []string
	w := &Walk{Searcher: NewSearcher(markers), Skip: []string{dir + "/a/" + core(3) + "/view"}, Hit: func(h Hit) {
		hits = append(hits, fmt.Sprintf("%s %s %d", h.Part, h.What, h.Count))
	}}
	if err := errors.Join(w.Tree(t.Context(), dir+"/a"), w.Tree(t.Context(), dir+"/missing"), w.Device(t.Context(), dir+"/image")); err != nil {
		t.Fatal(err)
	}
	slices.Sort(hits)
	if want := []string{"attachment device 1", "body content 2", "folder name 1", "subject target of a link 1"}; !slices.Equal(hits, want) {
		t.Errorf("found %q, want %q", hits, want)
	}
	if w.Searched.Files != 1 || w.Searched.Bytes != int64(3+2*len(core(0))+len(core(4))) {
		t.Errorf("%+v", w.Searched)
	}
}

func TestPlantAndRemove(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"maildir", "dovecot-maildir", "dovecot-sdbox", "cyrus"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(dir+"/kept", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			markers := NewMarkers()
			p, err := Plant(dir, profile, markers, []byte("a message\n"))
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, f := range p.Files {
				if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("a message\n")) {
					found++
				}
			}
			if found == 0 || !slices.ContainsFunc(p.Dirs, func(d string) bool { return strings.Contains(d, markers[3].Core) }) {
				t.Errorf("%d messages, directories %q", found, p.Dirs)
			}
			if err := os.WriteFile(p.Dirs[len(p.Dirs)-1]+"/dovecot.index", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := p.Remove(); err != nil {
				t.Error(err)
			}
			if left, err := filepath.Glob(dir + "/*"); err != nil || len(left) != 1 {
				t.Errorf("left: %q, %v", left, err)
			}
			if err := p.Remove(); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	s := NewSearcher(NewMarkers())
	data := make([]byte, 16<<20)
	for i := range data {
		data[i] = byte(i * 2654435761 >> 7)
	}
	b.SetBytes(int64(len(data)))
	buf := s.Buffer()
	for b.Loop() {
		if _, err := s.Read(bytes.NewReader(data), "", "", buf, func(int) {}); err != nil {
			b.Fatal(err)
		}
	}
}
