package main

import (
	"net/url"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// hasBrowser guesses whether a browser that is opened here is in front of the person: a display or a $BROWSER, and no ssh.
func hasBrowser(env environ) bool {
	if env("SSH_CONNECTION") != "" || env("SSH_TTY") != "" {
		return false
	}
	return runtime.GOOS == "darwin" || env("BROWSER") != "" || env("DISPLAY") != "" || env("WAYLAND_DISPLAY") != ""
}

// browsers are the programs that may open an address, each as its arguments: $BROWSER, a list with colons in which %s is the
// address, as Debian's sensible-browser reads it; else what the system has. No shell sees the address.
func browsers(env environ, address string) [][]string {
	var list [][]string
	for _, entry := range strings.Split(env("BROWSER"), ":") {
		words := strings.Fields(entry)
		if len(words) == 0 {
			continue
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
	return append(list, []string{"xdg-open", address})
}

// openBrowser starts the first of the programs that can be, in a session of its own: Ctrl-C is for us, and what it prints is
// for nobody. It reports whether one was started.
func openBrowser(env environ, address string) bool {
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return false // an address that a browser would take for something else
	}
	for _, words := range browsers(env, address) {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Dir = "/"
		if asGiven(cmd.Start) == nil {
			go cmd.Wait()
			return true
		}
	}
	return false
}
