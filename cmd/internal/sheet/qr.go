package sheet

import (
	"fmt"
	"unsafe"

	"github.com/boombuler/barcode/qr"
)

// matrix is a QR code: rows of modules, true for dark ones.
type matrix [][]bool

// encode makes a QR code that survives a fold or a stain (level Q: a quarter of it may be lost). The library takes a
// string; it gets one that shares the caller's memory, so that no copy is made here. What it holds itself stays in the
// heap of a process that ends soon and leaves no core file.
func encode(text []byte) (matrix, error) {
	if len(text) == 0 {
		return nil, fmt.Errorf("there is nothing to make a QR code of")
	}
	code, err := qr.Encode(unsafe.String(unsafe.SliceData(text), len(text)), qr.Q, qr.Auto)
	if err != nil {
		return nil, fmt.Errorf("cannot make a QR code: %w", err)
	}
	size := code.Bounds().Dx()
	m := make(matrix, size)
	for y := range m {
		m[y] = make([]bool, size)
		for x := range m[y] {
			red, _, _, _ := code.At(x, y).RGBA()
			m[y][x] = red < 0x8000
		}
	}
	return m, nil
}

func (m matrix) wipe() {
	for _, row := range m {
		clear(row)
	}
}

// svg draws the code with the quiet zone of four modules that readers need. Each run of dark modules is one rectangle.
func (m matrix) svg(b *buffer) {
	const quiet = 4
	size := len(m) + 2*quiet
	b.text(fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, size, size) +
		fmt.Sprintf("\n<path fill=\"#fff\" d=\"M0 0h%dv%dH0z\"/>\n<path fill=\"#000\" d=\"", size, size))
	for y, row := range m {
		for x := 0; x < len(row); x++ {
			from := x
			for x < len(row) && row[x] {
				x++
			}
			if x > from {
				b.text(fmt.Sprintf("M%d %dh%dv1H%dz", from+quiet, y+quiet, x-from, from+quiet))
			}
		}
	}
	b.text("\"/>\n</svg>\n")
}
