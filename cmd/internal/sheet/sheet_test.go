package sheet

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func example() *Sheet {
	return &Sheet{
		Title: "Recovery code <for> mail",
		About: []string{strings.Repeat("Keep this page & nothing else. ", 8)},
		Facts: [][2]string{{"user", "alice@example.org"}, {"made", "2026-01-02"}},
		Text:  []byte("ABCDE-FGHJK-MNPQR\nSTVWX-YZ012-34567\n"),
		Code:  []byte("ABCDE-FGHJK-MNPQR-STVWX-YZ012-34567"),
		Rules: []string{"Do not send it by mail.", "Do not photograph it."},
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	s := example()
	page, err := s.Render("x.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"RECOVERY CODE <FOR> MAIL", "    ABCDE-FGHJK-MNPQR\n    STVWX-YZ012-34567\n", "user:     alice@example.org", "- Do not send it by mail."} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("lacks %q:\n%s", want, page)
		}
	}
	for line := range strings.SplitSeq(string(page), "\n") {
		if len(line) > 78 {
			t.Errorf("line of %d characters: %s", len(line), line)
		}
	}
}

func TestHTML(t *testing.T) {
	t.Parallel()
	page, err := example().Render("Page.HTML")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<!DOCTYPE html>", "Recovery code &lt;for&gt; mail", "ABCDE-FGHJK-MNPQR\nSTVWX", "<svg ", "page &amp; nothing", "<li>Do not photograph it.</li>"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("lacks %q:\n%.2000s", want, page)
		}
	}
	// A page that loads something tells somebody that it was looked at.
	for _, bad := range []string{"src=", "href=", "url(", "@import", "<script"} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("the page holds %q", bad)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"code.pdf", "code", "code.png", ""} {
		if _, err := example().Render(name); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", name, err)
		}
	}
	s := example()
	s.Code = bytes.Repeat([]byte("x"), 4000)
	if _, err := s.Render("x.svg"); err == nil {
		t.Error("a text that fits no QR code was taken")
	}
	s.Code = nil
	if _, err := s.Render("x.svg"); err == nil {
		t.Error("an empty QR code was made")
	}
}

// TestQRCodeIsRead has another program read the code: the drawing as it is in the page, not the library's matrix.
func TestQRCodeIsRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"ABCDE-FGHJK-MNPQR-STVWX-YZ012-34567",
		"mailcryptfs-site-secret-1:" + strings.Repeat("0123456789abcdef", 4),
		"x",
	} {
		s := &Sheet{Code: []byte(text)}
		svg, err := s.Render("code.svg")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "code.png")
		draw(t, svg, path)
		out, err := exec.CommandContext(t.Context(), "zbarimg", "--quiet", "--raw", path).Output()
		if err != nil {
			t.Fatalf("zbarimg (package zbar-tools): %v", err)
		}
		if got := strings.TrimSuffix(string(out), "\n"); got != text {
			t.Errorf("read %q, want %q", got, text)
		}
	}
}

var (
	viewBox = regexp.MustCompile(`viewBox="0 0 (\d+) (\d+)"`)
	run     = regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1H(\d+)z`)
)

// draw makes a picture of what svg writes.
func draw(t *testing.T, svg []byte, path string) {
	t.Helper()
	const scale = 8
	size := number(t, viewBox.FindSubmatch(svg)[1])
	img := image.NewGray(image.Rect(0, 0, size*scale, size*scale))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	for _, m := range run.FindAllSubmatch(svg, -1) {
		x, y, w := number(t, m[1]), number(t, m[2]), number(t, m[3])
		if number(t, m[4]) != x {
			t.Fatalf("%s does not come back to its beginning", m[0])
		}
		for py := y * scale; py < (y+1)*scale; py++ {
			for px := x * scale; px < (x+w)*scale; px++ {
				img.SetGray(px, py, color.Gray{})
			}
		}
	}
	var b bytes.Buffer
	if err := errors.Join(png.Encode(&b, img), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, b []byte) int {
	t.Helper()
	n, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sheet.txt")
	page := []byte("secret page")
	if err := Write(path, page); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, make([]byte, len(page))) {
		t.Error("the page was not wiped")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != int64(len(page)) {
		t.Errorf("%v, %v", info, err)
	}
	if err := Write(path, []byte("other")); !errors.Is(err, os.ErrExist) {
		t.Errorf("a sheet was overwritten: %v", err)
	}
	if err := Write("/dev/full/x", []byte("other")); err == nil {
		t.Error("no error")
	}
}

func TestBufferLeavesNoCopies(t *testing.T) {
	t.Parallel()
	var b buffer
	b.bytes([]byte("needle"))
	first := b.b[:cap(b.b)]
	for i := range 5000 {
		b.text(fmt.Sprint(i))
	}
	if bytes.Contains(first, []byte("needle")) {
		t.Error("the buffer grew and left the secret behind")
	}
}
