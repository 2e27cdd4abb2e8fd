package records

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

const formatPage = "../../fs/FORMAT.md"

// exampleFence finds the example of a user record in FORMAT.md.
var exampleFence = regexp.MustCompile("(?s)(\nExample of a user record[^\n]*\n\n```\n)(.*?)(\n```\n)")

// longBase64 is a value that fills many lines of a page.
var longBase64 = regexp.MustCompile(`"([A-Za-z0-9+/]{48})[A-Za-z0-9+/]{60,}([A-Za-z0-9+/]{12}=*)"`)

// checkExample compares the example of FORMAT.md with the vector that it abbreviates, and writes it with -update.
func checkExample(t *testing.T) {
	t.Helper()
	record := loadVector(t, filepath.Join(vectorDir, "user-good")).record
	want := longBase64.ReplaceAll(record, []byte(`"$1…$2"`))
	want = append(want, "\n(… stands for base64 left out. The whole record, its password, identity and content key are in\n"+
		"keyring/records/testdata/vectors/user-good.)"...)
	page := readFile(t, formatPage)
	m := exampleFence.FindSubmatch(page)
	if m == nil {
		t.Fatalf("%s has no example of a user record", formatPage)
	}
	if *update && !bytes.Equal(m[2], want) {
		page = bytes.Replace(page, bytes.Join(m[1:], nil), bytes.Join([][]byte{m[1], want, m[3]}, nil), 1)
		must(t, os.WriteFile(formatPage, page, 0o644))
		return
	}
	if !bytes.Equal(m[2], want) {
		t.Errorf("the example in %s is not the vector user-good; run go generate", formatPage)
	}
}
