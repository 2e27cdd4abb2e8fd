// Package imports tests who may import whom: bytes at the bottom, the kernel at the top, and the code that an auditor
// must read free of input and output. It holds nothing but this test.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mailcryptfs/mailcryptfs/"

// rule says which of our packages a package may import in its own code (tests may import more). A pattern that ends in
// /... means the package and all below it. The first rule that fits a package counts.
type rule struct {
	who string
	may []string
	why string
}

var rules = []rule{
	{"cmd/internal/config", nil, "the configuration is text; what it means is decided by those that use it"},
	{"cmd/internal/control", []string{"keyring/account", "keyring/secret"}, "a protocol knows names and how to wipe, not the ring behind it"},
	{"cmd/internal/ui", []string{"keyring/secret"}, "talks to people; wipes the passwords that it reads"},
	{"cmd/internal/sheet", []string{"keyring/secret"}, "prints a secret that others made, and wipes the page"},
	{"cmd/internal/sitesecret", []string{"keyring/secret", "keyring/site"}, "reads what the site is derived from, derives nothing"},
	{"cmd/internal/doctor", []string{"cmd/internal/config"}, "looks at a machine; what it must know of users is told to it"},
	{"cmd/internal/export", []string{"fs/offline", "keyring/account"}, "writes what an offline reader gives it"},
	{"cmd/internal/...", nil, "helpers of one verb know nothing of the others"},
	{"cmd/mailcryptfs", []string{"cmd/internal/...", "fs", "fs/check", "fs/check/manifest", "fs/offline", "keyring/...", "pam/wire", "pam/unlock"}, "joins everything"},

	{"keyring/secret", nil, "the last thing that holds a key; everything may import it"},
	{"keyring/account", nil, "names of users are bytes"},
	{"keyring/site", []string{"keyring/secret"}, "derives keys, knows no user"},
	{"keyring/slot", []string{"keyring/secret", "keyring/account"}, "wraps and unwraps, does no input or output"},
	{"keyring/code", []string{"keyring/secret", "keyring/account", "keyring/slot"}, "recovery codes are bytes"},
	{"keyring/recovery", []string{"keyring/secret", "keyring/account", "keyring/slot", "keyring/site"}, "seals to recovery keys, knows no record and no file"},
	{"keyring/records", []string{"keyring/secret", "keyring/account", "keyring/site", "keyring/slot"}, "files of key records, no running state"},
	{"keyring/audit", []string{"keyring/secret", "keyring/account", "keyring/site"}, "a log of what others do"},
	{"keyring/...", []string{"keyring/..."}, "keys know nothing of files of mail, of PAM, or of verbs"},

	{"pam/wire", []string{"keyring/account", "keyring/secret"}, "frames are bytes"},
	{"pam/...", []string{"pam/...", "keyring/account", "keyring/secret"}, "declares the unlocker that it calls; joined with the ring in cmd"},

	{"fs/internal/format", nil, "byte layout and arithmetic are pure"},
	{"fs/internal/seal", []string{"fs/internal/format", "keyring/secret", "keyring/account", "keyring/site"}, "seals bytes, knows no file"},
	{"fs/internal/names", []string{"fs/internal/seal", "fs/internal/format", "keyring/secret", "keyring/account", "keyring/site"}, "names are bytes"},
	{"fs/internal/route", []string{"keyring/account"}, "judges paths, knows no file"},
	{"fs/internal/former", []string{"keyring/secret", "keyring/account"}, "records are bytes"},
	{"fs/internal/node", []string{"fs/internal/...", "keyring/secret", "keyring/account", "keyring/site"}, "translates kernel requests"},
	{"fs/check", []string{"fs/internal/...", "keyring/secret", "keyring/account", "keyring/site", "keyring/records", "keyring/slot", "keyring/audit", "fs/check/manifest"},
		"reads a store with no mount, key records and audit log too"},
	{"fs/...", []string{"fs/...", "keyring/secret", "keyring/account", "keyring/site"}, "gets keys through fs.KeySource, never from the ring itself"},

	{"integration/...", []string{"..."}, "tests of the whole"},
	{"contrib/...", []string{"..."}, "tools around the whole"},
}

// forbidden keeps packages away from libraries and parts of the standard library.
var forbidden = []struct {
	what   []string // import paths; /... as above
	except []string // our packages that may
	deep   bool     // look at everything that is linked in, not only at direct imports
	only   []string // if set, the rule is about these packages of ours alone
	why    string
}{
	{what: []string{"github.com/hanwen/go-fuse/..."}, except: []string{"fs/internal/node", "integration/...", "contrib/..."},
		why: "one package speaks to the kernel"},
	{what: []string{"os/...", "net/...", "syscall", "log/...", "io/fs", "golang.org/x/sys/..."},
		only: []string{"fs/internal/format", "fs/internal/seal", "keyring/slot", "keyring/code"}, why: "an auditor reads these without thinking of files"},
	{what: []string{"github.com/hanwen/go-fuse/...", "runtime/cgo", "C"}, only: []string{"fs/check", "fs/offline"}, deep: true,
		why: "a store can be checked and read on any machine, in a static program"},
	{what: []string{"crypto/aes", "crypto/cipher"}, except: []string{"fs/internal/seal", "keyring/slot"},
		why: "ciphers are used in two places that can be read at once"},
	{what: []string{"golang.org/x/crypto/argon2", "crypto/hpke"}, except: []string{"keyring/slot"},
		why: "slots are where passwords and identities meet"},
	{what: []string{"filippo.io/..."}, except: []string{"keyring/recovery", "keyring", "cmd/mailcryptfs", "cmd/internal/..."},
		why: "one package encrypts to recovery keys; others only hand identities on"},
	{what: []string{"github.com/spf13/..."}, except: []string{"cmd/mailcryptfs", "cmd/internal/manpage"}, why: "only verbs have flags"},
	{what: []string{"github.com/awnumar/..."}, except: []string{"keyring/secret"}, why: "locked memory is one package's business"},
	{what: []string{"math/rand", "math/rand/v2"}, except: []string{"integration/...", "contrib/..."}, why: "keys and nonces come from the system"},
	{what: []string{"unsafe"}, only: []string{"fs/internal/format", "fs/internal/seal", "keyring/slot", "keyring/records", "pam/wire"},
		why: "parsers of untrusted bytes stay memory safe"},
}

type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Error        *struct{ Err string }
}

func TestImports(t *testing.T) {
	t.Parallel()
	pkgs := list(t)
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages found", len(pkgs))
	}
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, module)
		checkRules(t, name, p)
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			nobody(t, name, imported)
		}
		for _, f := range forbidden {
			if len(f.only) > 0 && !matches(f.only, name) || matches(f.except, name) {
				continue
			}
			imports := p.Imports
			if f.deep {
				imports = p.Deps
			}
			for _, imported := range imports {
				if matches(f.what, imported) {
					t.Errorf("%s may not import %s: %s", name, imported, f.why)
				}
			}
		}
	}
}

func checkRules(t *testing.T, name string, p listed) {
	t.Helper()
	i := slices.IndexFunc(rules, func(r rule) bool { return matches([]string{r.who}, name) })
	if i < 0 {
		t.Errorf("no rule says what %s may import", name)
		return
	}
	for _, imported := range p.Imports {
		ours, ok := strings.CutPrefix(imported, module)
		if ok && !matches(rules[i].may, ours) {
			t.Errorf("%s may not import %s: %s", name, ours, rules[i].why)
		}
	}
}

// nobody imports a program or the tests of the whole, not even from tests.
func nobody(t *testing.T, name, imported string) {
	t.Helper()
	ours, ok := strings.CutPrefix(imported, module)
	top, _, _ := strings.Cut(name, "/")
	if ok && matches([]string{"cmd/...", "integration/..."}, ours) && !strings.HasPrefix(ours, top+"/") {
		t.Errorf("%s imports %s: nobody imports cmd or integration", name, ours)
	}
}

// matches reports whether name fits one of the patterns.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, tree := strings.CutSuffix(p, "/...")
		return p == "..." || name == prefix || tree && strings.HasPrefix(name, prefix+"/")
	})
}

// list asks the go command for every package of the module.
func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps,Error", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"fs", "fs", true}, {"fs", "fs/check", false}, {"fs/...", "fs", true}, {"fs/...", "fs/check", true},
		{"fs/...", "fsx", false}, {"...", "anything", true}, {"os/...", "os", true}, {"os/...", "os/exec", true},
	} {
		if got := matches([]string{tt.pattern}, tt.name); got != tt.want {
			t.Errorf("%q, %q: %v", tt.pattern, tt.name, got)
		}
	}
}
