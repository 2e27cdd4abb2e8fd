// Package manpage writes the manual pages of verbs from what --help says, so that the two cannot differ.
package manpage

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page is one manual page.
type Page struct {
	File string // "mailcryptfs-enroll.1"
	Text []byte // man(7)
}

// Tree returns the page of root and one page per visible verb at any depth below it. exitKey names the annotation that
// documents the exit status, one "code meaning" per line. The result depends on the tree alone: no date, no host.
func Tree(root *cobra.Command, exitKey string) []Page {
	pages := []Page{one(root, exitKey)}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			pages = append(pages, Tree(c, exitKey)...)
		}
	}
	return pages
}

// pageName is the name of the page of a verb, without its section.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func one(c *cobra.Command, exitKey string) Page {
	c.InitDefaultHelpFlag()
	name := pageName(c)
	var b bytes.Buffer
	fmt.Fprintf(&b, ".\\\" Written by \"mailcryptfs man\" from the text of --help; change that instead.\n")
	fmt.Fprintf(&b, ".TH %s 1 \"\" mailcryptfs \"mailcryptfs manual\"\n", strings.ToUpper(escape(name)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(name), escape(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n\\fB%s\\fR\n", escape(c.UseLine()))
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\\fB%s\\fR \\fIVERB\\fR [flags]\n", escape(c.CommandPath()))
	}
	b.WriteString(".fi\n.SH DESCRIPTION\n" + paragraphs(c.Long))
	verbs(&b, c)
	flags(&b, "OPTIONS", c.LocalFlags())
	flags(&b, "COMMON OPTIONS", c.InheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", verbatim(c.Example))
	}
	exitStatus(&b, c.Annotations[exitKey])
	seeAlso(&b, c)
	return Page{File: name + ".1", Text: b.Bytes()}
}

func verbs(b *bytes.Buffer, c *cobra.Command) {
	if !c.HasAvailableSubCommands() {
		return
	}
	b.WriteString(".SH VERBS\n")
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", escape(sub.Use), escape(sub.Short))
		}
	}
}

func flags(b *bytes.Buffer, heading string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", heading)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR", escape(name))
		if value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", escape(value))
		}
		b.WriteString("\n" + escape(usage))
		if worthSaying(f.DefValue) {
			fmt.Fprintf(b, " (default: %s)", escape(f.DefValue))
		}
		b.WriteByte('\n')
	})
}

// worthSaying is false for defaults that mean "not given".
func worthSaying(value string) bool {
	return value != "" && value != "false" && value != "0" && value != "-1" && value != "[]"
}

func exitStatus(b *bytes.Buffer, doc string) {
	if doc == "" {
		return
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, line := range strings.Split(doc, "\n") {
		code, meaning, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", escape(code), escape(strings.TrimSpace(meaning)))
	}
}

func seeAlso(b *bytes.Buffer, c *cobra.Command) {
	var see []string
	if c.HasParent() {
		see = append(see, pageName(c.Parent())+"(1)")
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			see = append(see, pageName(sub)+"(1)")
		}
	}
	see = append(see, "mailcryptfs.toml(5)")
	fmt.Fprintf(b, ".SH SEE ALSO\n%s\n", escape(strings.Join(see, ", ")))
}

// paragraphs writes running text; a blank line begins a new paragraph.
func paragraphs(text string) string {
	var b strings.Builder
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		for _, line := range strings.Split(p, "\n") {
			b.WriteString(escape(line) + "\n")
		}
	}
	return b.String()
}

func verbatim(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = escape(line)
	}
	return strings.Join(lines, "\n")
}

// escape keeps a line of text from being read as roff.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
