package manpage

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestTree(t *testing.T) {
	t.Parallel()
	root := &cobra.Command{Use: "prog", Short: "a program", Long: "First.\n\n.second \\ para", RunE: func(*cobra.Command, []string) error { return nil }}
	root.PersistentFlags().String("config", "/etc/x", "configuration `file`")
	sub := &cobra.Command{Use: "do USER", Short: "do it", Long: "Does it.", Example: "  prog do -x", RunE: root.RunE,
		Annotations: map[string]string{"exit": "  0   done\n  64  usage"}}
	sub.Flags().Bool("all", false, "everybody")
	root.AddCommand(sub, &cobra.Command{Use: "hidden", Hidden: true, RunE: root.RunE})

	pages := Tree(root, "exit")
	if len(pages) != 2 || pages[0].File != "prog.1" || pages[1].File != "prog-do.1" {
		t.Fatalf("pages %v", pages)
	}
	for i, wants := range [][]string{
		{".TH PROG 1", "prog \\- a program", "First.\n.PP\n\\&.second \\e para\n", "\\fBdo USER\\fR", "prog\\-do(1)", "\\fB\\-\\-config\\fR \\fIfile\\fR\nconfiguration file (default: /etc/x)"},
		{".TH PROG\\-DO 1", "\\fBprog do USER", "\\fB\\-\\-all\\fR\neverybody\n", "\\fB64\\fR\nusage", ".SH COMMON OPTIONS", "  prog do \\-x"},
	} {
		for _, want := range wants {
			if !strings.Contains(string(pages[i].Text), want) {
				t.Errorf("%s lacks %q:\n%s", pages[i].File, want, pages[i].Text)
			}
		}
	}
	if strings.Contains(string(pages[0].Text), "hidden") {
		t.Error("a hidden verb is shown")
	}
}
