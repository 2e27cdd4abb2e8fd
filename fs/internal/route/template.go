package route

import (
	"fmt"
	"strings"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// component is one path component of a user template: literal text around at
// most one variable.
type component struct {
	before, after string
	variable      byte // 'u', 'd', 'n', or 0
}

// variables are the parts of a user name that a path has told so far.
type variables struct{ u, d, n string }

func (v variables) user() (account.User, error) {
	switch {
	case v.u != "":
		return account.Parse(v.u)
	case v.d != "":
		return account.Parse(v.n + "@" + v.d)
	}
	return account.Parse(v.n)
}

func parseTemplate(s string) ([]component, error) {
	var out []component
	seen := map[byte]bool{}
	for _, part := range strings.Split(s, "/") {
		c, err := parseComponent(part)
		if err != nil {
			return nil, fmt.Errorf("user template %q: %w", s, err)
		}
		if c.variable != 0 && seen[c.variable] {
			return nil, fmt.Errorf("user template %q has %%%c twice", s, c.variable)
		}
		seen[c.variable] = true
		out = append(out, c)
	}
	if seen['u'] == seen['n'] || seen['d'] && !seen['n'] {
		return nil, fmt.Errorf("user template %q must have %%u alone, or %%n with or without %%d", s)
	}
	return out, nil
}

func parseComponent(s string) (component, error) {
	if s == "" || s == "." || s == ".." {
		return component{}, fmt.Errorf("component %q is not a directory name", s)
	}
	before, rest, found := strings.Cut(s, "%")
	if !found {
		return component{before: s}, nil
	}
	if rest == "" || strings.IndexByte("udn", rest[0]) < 0 || strings.Contains(rest, "%") {
		return component{}, fmt.Errorf("component %q may have one of %%u, %%d, %%n", s)
	}
	return component{before: before, after: rest[1:], variable: rest[0]}, nil
}

func (c component) match(name string, v *variables) bool {
	if c.variable == 0 {
		return name == c.before
	}
	if len(name) <= len(c.before)+len(c.after) || !strings.HasPrefix(name, c.before) || !strings.HasSuffix(name, c.after) {
		return false
	}
	value := name[len(c.before) : len(name)-len(c.after)]
	switch c.variable {
	case 'u':
		v.u = value
	case 'd':
		v.d = value
	case 'n':
		v.n = value
	}
	return true
}

// templated returns the components of the directory of user u by the template.
func (p *Policy) templated(u account.User) (components []string) {
	name, domain, _ := cutLast(string(u), '@')
	for _, c := range p.template {
		value := ""
		switch c.variable {
		case 'u':
			value = string(u)
		case 'n':
			value = name
		case 'd':
			value = domain
		}
		components = append(components, c.before+value+c.after)
	}
	return components
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}
