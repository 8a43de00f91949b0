package protocol

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// ShellLine is a command line, or a part of one, as it is shown to a person who may paste it into a shell: each word is quoted
// where it needs that. Every hint that shows a command with a value in it is made by it, because the value may come from outside,
// and must stay one word. What a terminal would not show as it is becomes an escape, $'a\012b', which keeps it on one line; a
// shell that does not know these takes it for other text, and for one word still.
func ShellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = ShellWord(word)
		if !utf8.ValidString(word) || strings.ContainsFunc(word, func(r rune) bool { return !strconv.IsPrint(r) }) {
			quoted[i] = "$'" + escaped(word) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// ShellWord makes exactly s of one word for any POSIX shell, without quotes where it needs none. It is for what a shell is given;
// what is shown is for [ShellLine].
func ShellWord(s string) string {
	plain := s != "" && s[0] != '=' // which zsh takes for the path of a command
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		plain = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-./=,:@%+", c) >= 0
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// escaped has octal escapes for the bytes of what is not printable, and for quotes and backslashes.
func escaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if strconv.IsPrint(r) && (r != utf8.RuneError || size > 1) && r != '\'' && r != '\\' {
			b.WriteString(s[i : i+size])
		} else {
			for _, c := range []byte(s[i : i+size]) {
				octal := strconv.FormatUint(uint64(c), 8)
				b.WriteString(`\` + strings.Repeat("0", 3-len(octal)) + octal)
			}
		}
		i += size
	}
	return b.String()
}
