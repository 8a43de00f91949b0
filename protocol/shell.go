package protocol

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// ShellLine returns a command line, or a part of one, for a person who may paste it into a shell. Words are quoted if they need
// it. Every hint that shows a command with a value in it must be made by it, because the value may come from elsewhere and must
// stay one word. Characters that a terminal would not show become escapes, as in $'a\012b', so that the text stays on one line. A
// shell that does not know these escapes takes the word for another text, but still for one word.
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

// ShellWord returns a word that any POSIX shell reads as s, without quotes if it needs none. It is for text that a shell gets;
// text for a person is made by [ShellLine].
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

// escaped returns s with octal escapes for quotes, backslashes, and the bytes of what is not printable.
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
