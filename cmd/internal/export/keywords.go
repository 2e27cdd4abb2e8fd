package export

import (
	"bufio"
	"io"
	"strconv"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/fs/offline"
)

// maxKeywords bounds the file that names keywords, in bytes.
const maxKeywords = 64 << 10

// keywordsOf reads dovecot-keywords: what the letters a to z in names of messages stand for. A folder without the file
// has no keywords; one that cannot be read is reported as a file.
func keywordsOf(dir *offline.Dir) map[byte]string {
	f, err := dir.Open("dovecot-keywords")
	if err != nil {
		return nil
	}
	defer f.Close()
	names := make(map[byte]string)
	lines := bufio.NewScanner(io.NewSectionReader(f, 0, min(f.Size, maxKeywords)))
	for lines.Scan() {
		number, name, ok := strings.Cut(lines.Text(), " ")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 && n < 26 && name != "" && !strings.ContainsAny(name, " \t\r\x00") {
			names['a'+byte(n)] = name
		}
	}
	return names
}

// named gives the names of the keywords among flags.
func (f *folder) named(flags string) []string {
	var out []string
	for i := range len(flags) {
		if name := f.keywords[flags[i]]; name != "" {
			out = append(out, name)
		}
	}
	return out
}
