//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"unicode/utf8"
)

// isHangUp reports the error that Linux gives a reader of a terminal whose last program has ended.
func isHangUp(err error) bool { return errors.Is(err, syscall.EIO) }

// The picture, in pixels but for columns.
const (
	columns    = 98
	charWidth  = 8.5
	lineHeight = 19
	margin     = 18
	titleBar   = 30
)

const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img">
<title>%[3]s, recorded from a terminal</title>
<style>
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d7dae0 }
.bold { font-weight: bold; fill: #ffffff }
.green { fill: #7bd88f }
.red { fill: #ff6b6b }
@media (prefers-reduced-motion: no-preference) { .line { animation: appear 0.2s backwards } }
@keyframes appear { from { opacity: 0 } }
</style>
<rect width="100%%" height="100%%" rx="8" fill="#1e2127"/>
<circle cx="20" cy="16" r="5" fill="#5c6370"/><circle cx="38" cy="16" r="5" fill="#5c6370"/><circle cx="56" cy="16" r="5" fill="#5c6370"/>
`

// piece is a part of a line, all of it in one style.
type piece struct{ class, text string }

// draw makes the picture of a command and of what it printed.
func draw(command, printed string) string {
	lines := [][]piece{{{"green", "$ "}, {"bold", command}}}
	delays := []float64{0}
	at := 0.0
	for line := range strings.SplitSeq(strings.TrimRight(strings.ReplaceAll(printed, "\r", ""), "\n"), "\n") {
		pieces := styled(line)
		at += pause(line)
		for _, broken := range wrap(pieces) {
			lines = append(lines, broken)
			delays = append(delays, at)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, head, 2*margin+columns*17/2, titleBar+len(lines)*lineHeight+margin, escape(command))
	for i, pieces := range lines {
		text := ""
		for _, p := range pieces {
			text += p.text
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		indent := utf8.RuneCountInString(text) - utf8.RuneCountInString(strings.TrimLeft(text, " "))
		fmt.Fprintf(&b, `<text class="line" x="%g" y="%d" style="animation-delay:%.1fs">`,
			margin+float64(indent)*charWidth, titleBar+(i+1)*lineHeight, delays[i])
		for j, p := range pieces {
			if j == 0 {
				p.text = strings.TrimLeft(p.text, " ")
			}
			if p.class == "" || p.text == "" {
				b.WriteString(escape(p.text))
			} else {
				fmt.Fprintf(&b, `<tspan class="%s">%s</tspan>`, p.class, escape(p.text))
			}
		}
		b.WriteString("</text>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// pause is how long a line lets the reader wait, in seconds: a new step and its outcome longer than what is in between.
func pause(line string) float64 {
	switch {
	case strings.TrimSpace(line) == "":
		return 0
	case !strings.HasPrefix(line, " "):
		return 0.7
	case strings.Contains(line, "ok:"):
		return 1
	}
	return 0.3
}

var (
	escapes = regexp.MustCompile(`\x1b\[([0-9;]*)m`)
	classes = map[string]string{"1": "bold", "31": "red", "32": "green"}
)

// styled parts a line where its style changes. Of what a terminal can be told it knows the styles that our programs use.
func styled(line string) (pieces []piece) {
	class := ""
	for {
		m := escapes.FindStringSubmatchIndex(line)
		if m == nil {
			return append(pieces, piece{class, line})
		}
		if m[0] > 0 {
			pieces = append(pieces, piece{class, line[:m[0]]})
		}
		class = classes[line[m[2]:m[3]]]
		line = line[m[1]:]
	}
}

// wrap breaks a line between words where it has more columns than the picture. What follows is indented as the line is.
func wrap(pieces []piece) (lines [][]piece) {
	var line []piece
	indent, column := -1, 0
	for _, p := range pieces {
		for _, word := range strings.SplitAfter(p.text, " ") {
			n := utf8.RuneCountInString(strings.TrimRight(word, " "))
			if n > 0 && indent < 0 {
				indent = column
			}
			if column+n > columns && column > indent {
				last := &line[len(line)-1]
				last.text = strings.TrimRight(last.text, " ")
				lines = append(lines, line)
				line, column = []piece{{"", strings.Repeat(" ", indent)}}, indent
			}
			if last := len(line) - 1; last >= 0 && line[last].class == p.class {
				line[last].text += word
			} else {
				line = append(line, piece{p.class, word})
			}
			column += utf8.RuneCountInString(word)
		}
	}
	return append(lines, line)
}

func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}
