package protocol

import "strconv"

// MaxProfile is the longest name of a profile, in bytes.
const MaxProfile = 64

// CheckProfile refuses, as ErrConfig, what can't be a profile's name. A name is [A-Za-z0-9][A-Za-z0-9._-]{0,63} without ".."
// (docs/protocol.md §4.2).
func CheckProfile(name string) error {
	switch {
	case name == "":
		return badProfile("a profile's name can't be empty")
	case len(name) > MaxProfile:
		return badProfile("a profile's name has at most " + strconv.Itoa(MaxProfile) + " characters")
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_' && (c != '.' || name[i-1] == '.')) {
			return badProfile("not a profile's name: " + quote(name))
		}
	}
	return nil
}

func badProfile(message string) error {
	return &Error{
		Code:    CodeConfig,
		Message: message,
		Hint:    "a name starts with a letter or digit and goes on with letters, digits, '.', '_' and '-', without '..'",
	}
}

// FoldProfile returns name in lower case. Names that differ only in case are names of one profile. It allocates only if name has
// an upper-case letter.
func FoldProfile(name string) string {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			b := []byte(name)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return name
}
