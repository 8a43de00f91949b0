//go:build linux

package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestDraw(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 25) + "end"
	svg := draw("demo <&>", "plain\r\n1. \x1b[1mtitle\x1b[0m\r\n   "+long+"\r\n\r\n   \x1b[32mok:\x1b[0m \"done\"\r\n")
	var texts []string
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "text" {
				texts = append(texts, "")
			}
		case xml.CharData:
			if len(texts) > 0 {
				texts[len(texts)-1] += string(token)
			}
		}
	}
	for i := range texts {
		texts[i] = strings.TrimSpace(texts[i])
	}
	first := strings.TrimSpace(strings.Repeat("word ", 19))
	want := []string{"$ demo <&>", "plain", "1. title", first, strings.Repeat("word ", 6) + "end", `ok: "done"`}
	if strings.Join(texts, "\n") != strings.Join(want, "\n") {
		t.Errorf("it shows\n%s\nand should show\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
	for _, part := range []string{`<tspan class="bold">title</tspan>`, `<tspan class="green">ok:</tspan>`} {
		if !strings.Contains(svg, part) {
			t.Errorf("it has no %s:\n%s", part, svg)
		}
	}
	if again := draw("demo <&>", "plain\r\n"); strings.Contains(again, "\x1b") || again != draw("demo <&>", "plain\r\n") {
		t.Error("the same text gives another picture")
	}
}

// TestRecord: the program has a terminal, and what it prints there is what is drawn.
func TestRecord(t *testing.T) {
	t.Parallel()
	got, err := record([]string{"sh", "-c", "test -t 1 && printf 'a terminal\\n'"})
	if err != nil || got != "a terminal\r\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := record([]string{"sh", "-c", "echo no good; exit 3"}); err == nil || !strings.Contains(err.Error(), "no good") {
		t.Errorf("a program that fails: %v", err)
	}
}
