// Package format is the byte layout of stored files: header, block records and
// the arithmetic between plaintext and stored sizes, as FORMAT.md section 3
// lays down. It holds pure functions only; it knows neither keys nor files.
package format

import "errors"

var (
	// ErrCorrupt says that the bytes cannot have been written by a correct
	// writer (FORMAT.md section 0).
	ErrCorrupt = errors.New("stored data is corrupt")
	// ErrUnsupported says that the bytes name a format version other than 1
	// (FORMAT.md F1). Nothing else of them has been judged.
	ErrUnsupported = errors.New("stored data has an unsupported format version")
)
