package sheet

import (
	"bytes"
	"html"
)

// style is all that the page needs: no fonts, scripts or images from anywhere.
const style = `body { font: 12pt/1.4 serif; max-width: 17cm; margin: 1cm auto; color: #000; background: #fff }
h1 { font-size: 18pt }
pre { font: bold 13pt/1.6 monospace; border: 1pt solid #000; padding: 4mm; white-space: pre-wrap }
svg { width: 6cm; height: 6cm; display: block }
th { text-align: left; padding-right: 1em; vertical-align: top }
@media print { body { margin: 0 } }`

// html returns a page of its own, which nothing is loaded for.
func (s *Sheet) html() ([]byte, error) {
	var b buffer
	b.text("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n")
	b.text("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n")
	b.text("<title>" + html.EscapeString(s.Title) + "</title>\n<style>\n" + style + "\n</style>\n</head>\n<body>\n")
	b.text("<h1>" + html.EscapeString(s.Title) + "</h1>\n")
	for _, p := range s.About {
		b.text("<p>" + html.EscapeString(p) + "</p>\n")
	}
	b.text("<pre>")
	b.bytes(bytes.TrimRight(s.Text, "\n")) // letters, digits and hyphens: nothing to escape
	b.text("</pre>\n")
	if s.Code != nil {
		q, err := encode(s.Code)
		if err != nil {
			return nil, err
		}
		defer q.wipe()
		q.svg(&b)
	}
	b.text("<table>\n")
	for _, f := range s.Facts {
		b.text("<tr><th>" + html.EscapeString(f[0]) + "</th><td>" + html.EscapeString(f[1]) + "</td></tr>\n")
	}
	b.text("</table>\n<ul>\n")
	for _, r := range s.Rules {
		b.text("<li>" + html.EscapeString(r) + "</li>\n")
	}
	b.text("</ul>\n</body>\n</html>\n")
	return b.take(), nil
}
