package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/mailcryptfs/mailcryptfs/cmd/internal/medium"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/sheet"
	"github.com/mailcryptfs/mailcryptfs/cmd/internal/ui"
	"github.com/mailcryptfs/mailcryptfs/keyring/secret"
)

// codeSheet is the page that a user keeps. The code stays the caller's.
func codeSheet(user string, code []byte) *sheet.Sheet {
	return &sheet.Sheet{
		Title: "Recovery code for your mail",
		About: []string{
			"Your mail is stored encrypted, and your password opens it. If you forget the password, or somebody changes it for you, " +
				"this code opens your mail again. Nobody has a copy of it, your administrator included.",
		},
		Facts: [][2]string{{"mail of", ui.Safe(user)}, {"made", time.Now().Format("2006-01-02")}},
		Text:  halves(code),
		Code:  code,
		Rules: []string{
			"Keep this sheet where you keep your passport: on paper, not in your mail, not on a phone.",
			"To use it, tell your administrator that you have it, and type it into: mailcryptfs passwd " + ui.Quote(user) + " --recovery-code. " +
				"Capitals, blanks and hyphens do not matter; there is no letter O, I, L or U in it.",
			"Whoever finds this sheet and can log in to the mail server can read your mail. If it is lost, ask for the code to be revoked and for a new one.",
		},
	}
}

// halves breaks a code into two lines, at a hyphen. The caller wipes them.
func halves(code []byte) []byte {
	lines := append(bytes.Clone(code), '\n')
	middle := len(code) / 2
	if i := bytes.IndexByte(lines[middle:], '-'); i >= 0 {
		lines[middle+i] = '\n'
	}
	return lines
}

// siteSheet is the page with the site secret. text and code stay the caller's.
func siteSheet(store string, text, code []byte) *sheet.Sheet {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &sheet.Sheet{
		Title: "Site secret of the mail store",
		About: []string{
			"Without this secret, no password, no recovery code and no recovery key opens any mail of this store. " +
				"By itself it opens no mail: together with a copy of the store it lets somebody guess passwords, and read names of folders.",
		},
		Facts: [][2]string{{"host", ui.Safe(host)}, {"store", ui.Safe(store)}, {"printed", time.Now().Format("2006-01-02")}},
		Text:  text,
		Code:  code,
		Rules: []string{
			"Keep this sheet in a safe, away from the machine and from backups of the store.",
			"To use it: mailcryptfs recover --site-secret --ask-site-secret, and type the groups or scan the code. " +
				"Capitals, blanks and hyphens do not matter; the last two digits of each group check it.",
		},
	}
}

// checkSheet judges the name of a sheet before a secret is made for it.
func checkSheet(path string) error {
	if _, err := (&sheet.Sheet{Code: []byte("x")}).Render(path); err != nil {
		return ui.Fail(ui.ExitUsage, "choose another name", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return ui.Failf(ui.ExitCantCreate, "choose another name, or remove it", "%s is there already and is not overwritten", path)
	}
	return nil
}

// showSheet prints a page, or writes it to a new file that root alone can read. It wipes the text of the sheet.
func (a *app) showSheet(s *sheet.Sheet, path string) error {
	defer secret.Wipe(s.Text)
	if path == "" {
		page := s.Plain()
		defer secret.Wipe(page)
		if _, err := a.out.Write(page); err != nil {
			return ui.Failf(ui.ExitIOErr, "", "cannot write the answer: %w", err)
		}
		return nil
	}
	page, err := s.Render(path)
	if err != nil {
		return ui.Fail(ui.ExitUsage, "", err)
	}
	if err := sheet.Write(path, page); errors.Is(err, os.ErrExist) {
		return ui.Fail(ui.ExitCantCreate, "choose another name", err)
	} else if err != nil {
		return ui.Fail(ui.ExitIOErr, "", err)
	}
	a.warnMedium(path, "print the sheet and remove the file")
	return a.printf("wrote the sheet %s: print it, then remove it\n", path)
}

// warnMedium says when a secret was written to a disk of this machine.
func (a *app) warnMedium(path, remedy string) {
	m, err := medium.Of(path)
	switch {
	case err != nil:
		a.warn("cannot tell what %s lies on (%v): %s", path, err, remedy)
	case m.Kind == medium.Fixed:
		a.warn("%s lies on %s: what was written can stay there, and in its backups, after it is removed; %s", path, m, remedy)
	case m.Kind == medium.Memory:
		a.warn("%s lies in %s: it is gone when the machine restarts; %s", path, m, remedy)
	}
}

// codeText is a recovery code in JSON, without becoming a Go string; the caller wipes it.
func codeText(code []byte) json.RawMessage {
	return slices.Concat([]byte{'"'}, code, []byte{'"'}) // letters, digits and hyphens: nothing to escape
}
