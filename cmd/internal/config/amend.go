package config

import (
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// Amend returns the text of a configuration file in which the key has the value of c; everything else, comments
// included, stays as it is. It fails if the result would not be the configuration c, so that no edit goes wrong unseen.
func Amend(path string, text []byte, c Config, keys ...string) ([]byte, error) {
	lines := strings.SplitAfter(string(text), "\n")
	for _, key := range keys {
		var err error
		if lines, err = amendKey(lines, key, c); err != nil {
			return nil, err
		}
	}
	amended := []byte(strings.Join(lines, ""))
	got, err := Parse(path, amended)
	if err != nil {
		return nil, err
	}
	if string(Render(got)) != string(Render(c)) {
		return nil, fmt.Errorf("%s is written in a way that cannot be changed automatically", path)
	}
	return amended, nil
}

func amendKey(lines []string, key string, c Config) ([]string, error) {
	for _, k := range Keys() {
		if k.Name != key {
			continue
		}
		line := fmt.Sprintf("%s = %s\n", key, literal(k.get(&c)))
		at, length := findKey(lines, key)
		if length > 0 {
			return append(append(append([]string{}, lines[:at]...), line), lines[at+length:]...), nil
		}
		if n := len(lines); n > 0 && lines[n-1] != "" && !strings.HasSuffix(lines[n-1], "\n") {
			lines[n-1] += "\n"
		}
		return append(lines, "\n# "+strings.ReplaceAll(k.Doc, "\n", "\n# ")+"\n", line), nil
	}
	return nil, fmt.Errorf("there is no key %q", key)
}

// findKey returns on which lines the key and its value stand; length 0 if it is not written. A value of several lines ends
// with the first line that makes it complete.
func findKey(lines []string, key string) (at, length int) {
	for i, line := range lines {
		rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), key)
		if !ok || !strings.HasPrefix(strings.TrimLeft(rest, " \t"), "=") {
			continue
		}
		for n := 1; i+n <= len(lines); n++ {
			var v map[string]any
			if toml.Unmarshal([]byte(strings.Join(lines[i:i+n], "")), &v) == nil {
				return i, n
			}
		}
	}
	return 0, 0
}
