package protocol

import "strings"

// ShellLine is a command line as a person may paste it into any POSIX shell, each word quoted where it needs that. Every hint that
// shows a command with a value in it is made by it: the value may come from outside, and must stay one word.
func ShellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = ShellWord(word)
	}
	return strings.Join(quoted, " ")
}

// ShellWord makes one word of s for a POSIX shell, without quotes where it needs none.
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
