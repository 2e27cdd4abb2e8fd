package route

import (
	"path"
	"strings"
	"testing"

	"github.com/mailcryptfs/mailcryptfs/keyring/account"
)

// FuzzTemplate: a template that compiles gives every user the directory that it names, and no other user that one.
func FuzzTemplate(f *testing.F) {
	f.Fuzz(func(t *testing.T, template, local, domain string) {
		p, err := New("maildir", template, nil, nil)
		if err != nil {
			return
		}
		if strings.ContainsAny(local+domain, "/\x00") || local == "" || domain == "" {
			return
		}
		name := local + "@" + domain
		if strings.Contains(template, "%n") && !strings.Contains(template, "%d") {
			name = local
		}
		user, err := account.Parse(name)
		if err != nil {
			return
		}
		place := strings.NewReplacer("%u", name, "%n", local, "%d", domain).Replace(template)
		d := p.Root()
		for i, part := range strings.Split(place, "/") {
			if d.User() != "" || !d.Above() {
				t.Fatalf("%q: %q belongs to %q after %d components", template, place, d.User(), i)
			}
			d = d.Child(part)
		}
		if d.User() != user || d.Above() || d.Child("x").User() != user {
			t.Fatalf("%q: %q belongs to %q, want %q", template, place, d.User(), user)
		}
	})
}

// FuzzPattern: a pattern that compiles matches what path.Match says of its parts.
func FuzzPattern(f *testing.F) {
	f.Fuzz(func(t *testing.T, pattern, folder, name string) {
		p, err := New("maildir", "%u", []string{pattern}, nil)
		if err != nil || strings.ContainsAny(folder+name, "/\x00") || folder == "" || name == "" {
			return
		}
		parts := strings.Split(pattern, "/")
		last := len(parts) - 1
		want := last <= 2 && (parts[last] == "**" || matches(t, parts[last], name))
		for i, place := last-1, []string{"up", folder}; want && i >= 0; i-- {
			want = matches(t, parts[i], place[len(place)-1])
			place = place[:len(place)-1]
		}
		if parts[last] == "**" && !want {
			want = matches(t, parts[0], "up") // everything below, however far
		}
		got := p.Root().Child("user").Child("up").Child(folder).Class(name)
		if want && got != Private || !want && got != byProfile(t, folder, name) {
			t.Fatalf("%q gives %q/%q class %d, match %v", pattern, folder, name, got, want)
		}
	})
}

func matches(t *testing.T, pattern, name string) bool {
	t.Helper()
	ok, err := path.Match(pattern, name)
	if err != nil {
		t.Fatalf("%q was taken: %v", pattern, err)
	}
	return ok
}

// byProfile returns the class of a file without any pattern of the configuration.
func byProfile(t *testing.T, folder, name string) Class {
	t.Helper()
	p, err := New("maildir", "%u", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Root().Child("user").Child("up").Child(folder).Class(name)
}
