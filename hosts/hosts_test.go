package hosts

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	t.Parallel()
	for _, tt := range [][4]string{
		{"https", "Git.Example.com", "", "git.example.com"}, {"https", "git.example.com", "443", "git.example.com"},
		{"HTTPS", "git.example.com", "0443", "git.example.com"}, {"https", "git.example.com", "8443", "git.example.com:8443"},
		{"https", "git.example.com", "80", "git.example.com:80"}, {"grpcs", "a.example.com", "443", "a.example.com"},
		{"http", "localhost", "", "localhost:80"}, {"http", "127.0.0.1", "3000", "127.0.0.1:3000"},
		{"https", "localhost", "", "localhost:443"}, {"http", "::1", "3000", "[::1]:3000"}, {"https", "0:0::2", "", "::2"},
		{"https", "2001:DB8:0::1", "8443", "[2001:db8::1]:8443"},
	} {
		if got := Name(tt[0], tt[1], tt[2]); got != tt[3] {
			t.Errorf("%v: %q", tt, got)
		}
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{
		"Git.Example.com": "git.example.com", "git.example.com:8443": "git.example.com:8443", "git.example.com:443": "git.example.com",
		"*.example.com": "*.example.com", "*.Example.com:8443": "*.example.com:8443", "localhost": "localhost",
		"localhost:443": "localhost:443", "127.0.0.1:80": "127.0.0.1:80", "::1": "::1", "[::1]": "::1", "[::1]:8080": "[::1]:8080",
		"2001:DB8:0::1": "2001:db8::1", "[2001:db8::1]:443": "2001:db8::1", "xn--gt-eka.example.com": "xn--gt-eka.example.com",
		"": "", "*": "", "*.com": "", ".example.com": "", "a.*.example.com": "", "*a.example.com": "", "**.example.com": "",
		"*.*.example.com": "", "*.0.0.1": "", "*.": "", "example.com.": "", "https://example.com": "", "example.com/x": "",
		"u@example.com": "", "gıt.example.com": "", "example.com:": "", "example.com:0": "", "example.com:65536": "",
		"example.com:x": "", "example.com:0443": "", "[example.com]": "", "[127.0.0.1]": "", "[::1": "", "[::1]:": "", "[::1]8": "",
		"fe80::1%eth0": "", "[fe80::1%eth0]:1": "", "a b.example.com": "", "a..example.com": "", "?": "", "*:443": "", "[*]": "",
		"300.1.1.1": "", "127.1": "", "010.0.0.1": "", "0x7f.0.0.0x1": "", "2130706433": "", "a.example.0x": "",
		"1.2.3.4":    "1.2.3.4",
		"10.0.0.0/8": "", "2001:db8::/32": "", "*.[::1]": "", "*.10": "", ".": "", "..": "", "-a.example.com": "",
		"4.example.com": "4.example.com", strings.Repeat("a", 63) + ".example.com": strings.Repeat("a", 63) + ".example.com",
		strings.Repeat("a", 64) + ".example.com": "", strings.Repeat("a.", 127) + "example.com": "", "u:p@example.com": "",
	} {
		got, err := Pattern(written)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", written, got, err, want)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"git.example.com", "git.example.com", true},
		{"git.example.com", "GIT.example.com", true},
		{"git.example.com", "git.example.com:8443", false},
		{"git.example.com:8443", "git.example.com:8443", true},
		{"git.example.com:8443", "git.example.com", false},
		{"git.example.com:8443", "git.example.com:443", false},
		{"*.example.com", "git.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", "a.git.example.com", false},
		{"*.example.com", "git.example.com:8443", false},
		{"*.example.com:8443", "git.example.com:8443", true},
		{"*.example.com", "evilexample.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "?", false},
		{"localhost", "localhost:3000", true},
		{"localhost", "localhost:443", true},
		{"localhost:3000", "localhost:3001", false},
		{"127.0.0.1", "127.0.0.1:80", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"::1", "[::1]:3000", true},
		{"[::1]:3000", "[::1]:3001", false},
		{"2001:db8::1", "2001:db8::1", true},
		{"2001:db8::1", "[2001:db8::1]:8443", false},
		{"git.example.com", "", false},
	} {
		if got := Match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%s for %s: %t", tt.pattern, tt.name, got)
		}
	}
}

// The advice for an entry that matches nothing is not one that matches nothing either.
func TestPatternAdvice(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{
		".example.com": "write *.example.com", ".": "without the dot at the end", "10.0.0.0/8": "write each address",
		"127.1": "four numbers", "*.[::1]": "a part of an address", "u:p@example.com": "without a path or a user",
		"https://u:p@example.com": "without a path or a user", " example.com": "a blank",
	} {
		if _, err := Pattern(written); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", written, err, want)
		}
	}
}
