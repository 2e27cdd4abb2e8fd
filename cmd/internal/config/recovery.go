package config

import (
	"fmt"
	"regexp"
	"strings"
)

// Limits of the recovery keys: each costs every user a slot of 64 at most, and about 4 KiB of the key record.
const (
	MaxRecipients    = 16
	maxRecipientSize = 4096 // bytes; a hybrid one has about 2000
)

// Values of site_secret that are not a path.
const (
	AskSecret        = "ask"         // the daemon asks for it when it starts
	CredentialPrefix = "credential:" // the name of a credential of the systemd unit follows
)

// credentialName is what systemd takes for the name of a credential that is also a file name.
var credentialName = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,200}$`)

// recovery judges what can be judged of the recovery keys without the library that knows them.
func (v *checker) recovery(c *Config) {
	const key = "recovery_recipients"
	v.oneOf("recovery", c.Recovery, "none", "optional", "required")
	if len(c.Recipients) > MaxRecipients {
		v.fail(key, c.Recipients[:1], fmt.Sprintf("has %d recovery keys, at most %d are possible", len(c.Recipients), MaxRecipients),
			"keep those that somebody still has")
	}
	if c.Recovery == "none" && len(c.Recipients) > 0 {
		v.fail("recovery", c.Recovery, "the recovery keys in recovery_recipients would open nothing",
			`write recovery = "required" or "optional", or recovery_recipients = []`)
	}
	seen := make(map[string]bool)
	for _, r := range c.Recipients {
		switch {
		case strings.Contains(strings.ToUpper(r), "SECRET-KEY"):
			// Not repeated: it would reach the log.
			v.fail(key, "AGE-SECRET-KEY-...", "is the private half of a recovery key, which may not lie on this machine",
				"take it off this machine, and write the public half, which begins with age1")
		case !strings.HasPrefix(r, "age1") || len(r) > maxRecipientSize || strings.IndexFunc(r, notBech32) >= 0:
			v.fail(key, clip(r), "is not the public half of an age key", "write what age-keygen or mailcryptfs setup --recovery printed; it begins with age1")
		case seen[r]:
			v.fail(key, clip(r), "is written twice", "write it once")
		}
		seen[r] = true
	}
}

func notBech32(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }

// clip shortens what is too long for a line of an error.
func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:37], "") + "..."
	}
	return s
}

// siteSecret judges where the site secret comes from. disjoint says that store and view are good.
func (v *checker) siteSecret(c *Config, disjoint bool) {
	const key = "site_secret"
	name, isCredential := strings.CutPrefix(c.SiteSecret, CredentialPrefix)
	switch {
	case c.SiteSecret == AskSecret:
	case isCredential:
		if !credentialName.MatchString(name) || name == "." || name == ".." {
			v.fail(key, c.SiteSecret, "does not name a credential", `write for example "credential:site.secret"`)
		}
	case v.absolute(key, c.SiteSecret) && disjoint && (within(c.SiteSecret, c.Store) || within(c.SiteSecret, c.View)):
		v.fail(key, c.SiteSecret, "lies in the store or in the view: whoever takes the store would take the secret with it", "choose a path outside both")
	}
}

// Differences returns the keys whose values differ, in the order of the file.
func Differences(a, b Config) []string {
	var names []string
	for _, k := range Keys() {
		if literal(k.get(&a)) != literal(k.get(&b)) {
			names = append(names, k.Name)
		}
	}
	return names
}
