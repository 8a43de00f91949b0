// Package browser opens an address in the person's browser. The address does not show in the list of processes.
package browser

import (
	"errors"
	"fmt"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
)

// Likely guesses whether a browser that is opened here is in front of the person: a display, a $BROWSER or Windows, and no ssh.
func Likely(env environ.Vars) bool {
	if env("SSH_CONNECTION") != "" || env("SSH_TTY") != "" {
		return false
	}
	return runtime.GOOS == "darwin" || env("BROWSER") != "" || env("DISPLAY") != "" || env("WAYLAND_DISPLAY") != "" ||
		distribution(env) != "" && env.OnPath(wslview)
}

// wslview is the program of wslu that opens an address in Windows.
const wslview = "wslview"

// distribution is the name of WSL's distribution that this is, "" outside of WSL.
func distribution(env environ.Vars) string { return env("WSL_DISTRO_NAME") }

// browsers returns the command lines that may open an address. First come those of $BROWSER, read as Debian's sensible-browser
// reads it: a list separated by colons, in which %s stands for the address. The system's own program comes last. No shell sees
// the address.
func browsers(env environ.Vars, address string) [][]string {
	var list [][]string
	for _, entry := range strings.Split(env("BROWSER"), ":") {
		words := command(entry)
		if len(words) == 0 {
			continue
		}
		address := address
		if strings.HasSuffix(strings.ToLower(words[0]), ".exe") {
			address = ofWindows(env, address)
		}
		named := false
		for i, word := range words {
			if strings.Contains(word, "%s") && i > 0 {
				words[i], named = strings.ReplaceAll(word, "%s", address), true
			}
		}
		if !named {
			words = append(words, address)
		}
		list = append(list, words)
	}
	if runtime.GOOS == "darwin" {
		return append(list, []string{"/usr/bin/open", address})
	}
	if distribution(env) != "" {
		list = append(list, []string{wslview, address})
	}
	return append(list, []string{"xdg-open", address})
}

// command takes an entry of $BROWSER apart: words between blanks, of which quotation marks and backslashes make one. A program
// whose path holds blanks needs neither, if it is there: /mnt/c/Program Files/Mozilla Firefox/firefox.exe.
func command(entry string) []string {
	entry = strings.Trim(entry, " \t\r\n")
	for end := len(entry); end > 0; end = strings.LastIndexAny(entry[:end], " \t") {
		program := strings.TrimRight(entry[:end], " \t")
		if _, err := exec.LookPath(program); err == nil && filepath.IsAbs(program) {
			return append([]string{program}, split(entry[end:])...)
		}
	}
	return split(entry)
}

// split returns the words of a text, as a shell does with quotation marks and backslashes alone.
func split(text string) []string {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			inWord, escaped = true, true
		case r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			inWord, quote = true, r
		case quote == 0 && unicode.IsSpace(r):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// ofWindows is the address of a file of ours as Windows has it.
func ofWindows(env environ.Vars, address string) string {
	u, err := url.Parse(address)
	if name := distribution(env); err == nil && u.Scheme == "file" && name != "" {
		u.Host, u.Path = "wsl.localhost", "/"+name+u.Path
		return u.String()
	}
	return address
}

// Open starts the first browser that can be started, and the next one if it fails at once. It runs in a session of its own, so
// that Ctrl-C reaches only us, and its output is discarded. The browser gets a page that leads to the address and not the
// address itself: every user of the machine can see a program's arguments, and the address contains the secrets of the sign-in.
// close deletes the page.
func Open(env environ.Vars, address string) (close func(), err error) {
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return func() {}, errors.New("this is not a web address") // a browser might take it for a file or a script
	}
	page, close, err := leadingPage(env, address)
	if err != nil {
		return close, err
	}
	if !startFirst(browsers(env, page)) {
		close()
		return func() {}, errors.New("no browser could be started")
	}
	return close, nil
}

// atOnce is how soon a program ends that could not open anything.
const atOnce = 5 * time.Second

// startFirst starts the first of the command lines that can be started, and reports whether there is one. If that fails at once,
// as wslview does where Windows can't be reached, the next one gets its turn.
func startFirst(commands [][]string) bool {
	for i, words := range commands {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Dir = "/"
		if limits.AsGiven(cmd.Start) != nil {
			continue
		}
		began := time.Now()
		go func() {
			if cmd.Wait() != nil && time.Since(began) < atOnce {
				startFirst(commands[i+1:])
			}
		}()
		return true
	}
	return false
}

// leadingPage writes a page that only the person can read and that leads to the address. It returns the URL of the page. close
// deletes it.
func leadingPage(env environ.Vars, address string) (page string, close func(), err error) {
	for _, parent := range pageFolders(env, snaps) {
		sweepPages(parent)
		var dir string
		if dir, err = os.MkdirTemp(parent, pageFolder); err != nil { // 0700
			continue
		}
		close = sync.OnceFunc(func() { os.RemoveAll(dir) })
		path := filepath.Join(dir, "open.html")
		if err = os.WriteFile(path, []byte(leadTo(address)), 0o600); err == nil {
			return (&url.URL{Scheme: "file", Path: path}).String(), close, nil
		}
		close()
	}
	return "", func() {}, fmt.Errorf("the page that leads to the provider can't be written: %w", err)
}

// pageFolder is how the name of a page's folder begins.
const pageFolder = "ccagent-sign-in-"

// sweepPages deletes pages of sign-ins that were killed. A browser reads its page at once, so a page that is an hour old is not
// needed any more.
func sweepPages(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, pageFolder+"*"))
	for _, dir := range left {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > time.Hour {
			os.RemoveAll(dir)
		}
	}
}

// snaps are the folders with the programs of snap packages.
var snaps = []string{"/snap/bin", "/var/lib/snapd/snap/bin"}

// pageFolders returns the folders in which the page may lie, the best one first. That is the one that goes with the session. A
// browser that is a snap sees neither that folder nor hidden folders, so for it the home folder comes first.
func pageFolders(env environ.Vars, snaps []string) []string {
	var list []string
	if dir := env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		list = append(list, dir)
	}
	if dir, err := env.StateDir(); err == nil && os.MkdirAll(dir, 0o700) == nil {
		list = append(list, dir)
	}
	if home := env("HOME"); filepath.IsAbs(home) {
		for _, name := range []string{"firefox", "chromium", "brave", "opera", "vivaldi"} {
			for _, dir := range snaps {
				if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
					return append([]string{home}, list...)
				}
			}
		}
	}
	return list
}

// leadTo returns a page that goes to an address at once. It has no script, and does not tell the address where the page lies.
func leadTo(address string) string {
	address = html.EscapeString(address)
	return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url=` + address + `"><title>Signing in · ccagent</title></head>
<body><p><a rel="noreferrer" href="` + address + `">Go on to where you sign in</a></p></body></html>
`
}
