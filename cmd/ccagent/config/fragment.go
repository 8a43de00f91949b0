package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// foreign are the keys that a fragment from elsewhere may not contain. The value says what the key names.
var foreign = map[string]string{
	"command":           "a command",
	"assertion_command": "a command",
	"assertion_file":    "the path of a file",
	"client_key_file":   "the path of a file",
	"config_dir":        "the path of a directory",
	"identity":          "the path of a file",
	"ca_file":           "the path of a file",
	"client_cert":       "the path of a file",
	"client_key":        "the path of a file",
	"proxy":             "a proxy, through which every secret would go",
	"client_secret":     "a secret",
	"mcp_url":           "the address of an MCP server, which would be sent the token (sign in to one with login --mcp)",
	"client_registered": "a client that somebody else's ccagent has registered",
	"headers":           "headers, which may contain secrets",
	"views":             "a file of another program, which ccagent would write",
}

const (
	maxFragment  = 64 << 10 // bytes
	fragmentTime = 15 * time.Second
)

// Fragment reads one profile from a fragment of config.toml, and returns its name and its table. from is a path, or an https URL.
// name selects one of several profiles; it may be "" if there is only one.
func Fragment(ctx context.Context, from, name string) (string, *Table, error) {
	text, err := fetchFragment(ctx, from)
	if err != nil {
		return "", nil, err
	}
	d, err := parseConfig(from, text)
	if err != nil {
		return "", nil, err
	}
	if name, err = d.shared(name); err != nil {
		return "", nil, err
	}
	table := d.Profiles[name]
	return name, &table, nil
}

// shared returns the name of the selected profile. It returns an error if the fragment contains what it may not.
func (d *document) shared(name string) (string, error) {
	for _, key := range d.index.below() {
		if key != "profiles" {
			return "", d.fault(d.index.line(key), "%s may not be in a fragment, which is one table [profiles.NAME]", key)
		}
	}
	if len(d.Profiles) == 0 {
		return "", d.fault(0, "it has no table [profiles.NAME]")
	}
	if name == "" && len(d.Profiles) == 1 {
		for only := range d.Profiles {
			name = only
		}
	}
	if _, ok := d.Profiles[name]; !ok {
		return "", d.fault(0, "it has the profiles %s: name one of them", strings.Join(slices.Sorted(maps.Keys(d.Profiles)), ", "))
	}
	if err := protocol.CheckProfile(name); err != nil {
		return "", err
	}
	for _, key := range d.index.below("profiles", name) {
		line := d.index.line("profiles", name, key)
		if what, ok := foreign[key]; ok {
			return "", d.fault(line, "profiles.%s: %s is %s, which a fragment from elsewhere may not contain", name, key, what)
		}
	}
	if kind := provider.Kind(d.Profiles[name].Provider); !kind.Traits().SignsIn {
		return "", d.fault(d.index.line("profiles", name, "provider"),
			"profiles.%s: provider %q has no sign-in; a fragment needs oidc, oauth2 or claude", name, kind)
	}
	return name, d.diverts(name)
}

// diverts returns an error if an endpoint of the profile is on another server than the sign-in page. The person would see the
// page of a server that they trust, while the code or the tokens go elsewhere. A profile of provider oauth2 without an issuer is
// not checked: its endpoints are all that identifies the provider, and the person is shown them.
func (d *document) diverts(name string) error {
	t := d.Profiles[name]
	defaults := provider.Kind(t.Provider).Traits().Defaults
	home := ""
	switch {
	case defaults.AuthorizeURL != "":
		home, _ = oauth.Origin(defaults.AuthorizeURL)
	case t.Issuer == nil:
		return nil
	default:
		if _, err := secureurl.Parse(*t.Issuer); err != nil {
			return d.fault(d.index.line("profiles", name, "issuer"), "profiles.%s: issuer %v", name, err)
		}
		home, _ = oauth.Origin(*t.Issuer)
	}
	endpoints := map[string]*string{
		"issuer": t.Issuer, "authorize_url": t.AuthorizeURL, "token_url": t.TokenURL, "device_url": t.DeviceURL,
		"revoke_url":     t.RevokeURL,
		"introspect_url": t.IntrospectURL, "profile_url": t.ProfileURL, "paste_url": t.PasteURL,
	}
	for _, key := range slices.Sorted(maps.Keys(endpoints)) {
		if endpoints[key] == nil {
			continue
		}
		if origin, err := oauth.Origin(*endpoints[key]); err != nil || origin != home {
			return d.fault(
				d.index.line("profiles", name, key),
				"profiles.%s: the sign-in page is at %s, and %s is on another server, which a fragment from elsewhere may not set",
				name,
				home,
				key,
			)
		}
	}
	return nil
}

// fetchFragment reads a fragment from a file, or by https. Plain http is allowed for this machine only.
func fetchFragment(ctx context.Context, from string) ([]byte, error) {
	failed := func(code protocol.Code, format string, args ...any) error {
		return &protocol.Error{Code: code, Message: terminal.Sanitize(from + ": " + fmt.Sprintf(format, args...))}
	}
	var body io.ReadCloser
	if strings.Contains(from, "://") {
		if strings.Contains(from, "@") { // there may be a password before it, so the error does not show the address
			return nil, &protocol.Error{Code: protocol.CodeConfig,
				Message: "the address of the fragment contains an @, which suggests a user name or a password",
				Hint: "if a password is needed, download the file in another way and give its path; in the path of a URL, write " +
					"an @ as %40"}
		}
		if _, err := secureurl.Parse(from); err != nil {
			return nil, &protocol.Error{Code: protocol.CodeConfig,
				Message: terminal.Sanitize("the address of the fragment " + err.Error())}
		}
		ctx, cancel := context.WithTimeout(ctx, fragmentTime)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
		if err != nil {
			return nil, failed(protocol.CodeConfig, "it is not a URL")
		}
		request.Header.Set("User-Agent", "ccagent/"+build.Version())
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		reply, err := client.Do(request)
		if err != nil {
			return nil, failed(protocol.CodeUnavailable,
				"it can't be fetched (%s): try again, or download it in another way and give the path of the file", errors.Unwrap(err))
		}
		body = reply.Body
		defer body.Close()
		switch {
		case reply.StatusCode/100 == 3:
			return nil, failed(protocol.CodeConfig, "it redirects to another address; give that address")
		case reply.StatusCode/100 == 4:
			return nil, failed(protocol.CodeNotFound, "the server answers %d", reply.StatusCode)
		case reply.StatusCode != http.StatusOK:
			return nil, failed(protocol.CodeUnavailable, "the server answers %d", reply.StatusCode)
		}
	} else {
		f, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0) // opening a FIFO must not hang
		if err != nil {
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: terminal.Sanitize(err.Error()),
				Hint: "give the path of a file, or an address that begins with https://"}
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, failed(protocol.CodeInvalid, "it is a folder: give the path of the file in it")
		}
		body = f
	}
	text, err := io.ReadAll(io.LimitReader(body, maxFragment+1))
	switch {
	case err != nil:
		return nil, failed(protocol.CodeUnavailable, "it can't be read")
	case len(text) > maxFragment:
		return nil, failed(protocol.CodeConfig, "it is larger than 64 KiB, the limit for a fragment")
	case lookalike.Marked(text) != "":
		return nil, failed(protocol.CodeConfig, "it %s; %s", lookalike.Marked(text), lookalike.Unmark)
	}
	return text, nil
}
