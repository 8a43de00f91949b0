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
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// foreign are the keys that a fragment from elsewhere may not hold, with the reason.
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
	"proxy":             "a proxy, which everything would go through",
	"client_secret":     "a secret",
	"headers":           "headers, in which secrets travel",
	"views":             "a file of another program, which would be written",
}

const (
	maxFragment  = 64 << 10 // bytes
	fragmentTime = 15 * time.Second
)

// Fragment reads the profile of a fragment. name picks one of several.
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

// shared returns the profile that is meant, and refuses what a fragment may not hold.
func (d *document) shared(name string) (string, error) {
	for _, key := range d.index.below() {
		if key != "profiles" {
			return "", d.fault(d.index.line(key), "%s does not belong into a fragment: it is one [profiles.NAME]", key)
		}
	}
	if len(d.Profiles) == 0 {
		return "", d.fault(0, "it holds no [profiles.NAME]")
	}
	if name == "" && len(d.Profiles) == 1 {
		for only := range d.Profiles {
			name = only
		}
	}
	if _, ok := d.Profiles[name]; !ok {
		return "", d.fault(0, "it holds the profiles %s: name one", strings.Join(slices.Sorted(maps.Keys(d.Profiles)), ", "))
	}
	if err := protocol.CheckProfile(name); err != nil {
		return "", err
	}
	for _, key := range d.index.below("profiles", name) {
		line := d.index.line("profiles", name, key)
		if what, ok := foreign[key]; ok {
			return "", d.fault(line, "profiles.%s: %s is %s, which a fragment from elsewhere may not hold", name, key, what)
		}
	}
	if kind := provider.Kind(d.Profiles[name].Provider); !kind.Traits().SignsIn {
		return "", d.fault(
			d.index.line("profiles", name, "provider"),
			"profiles.%s: provider %q is not one that one signs in to: oidc, oauth2 or claude",
			name,
			kind,
		)
	}
	return name, d.diverts(name)
}

// diverts refuses a profile whose sign-in page is one place's, as the person sees, while an endpoint that is named beside it
// takes the code or the tokens elsewhere. What a provider oauth2 without an issuer names is all there is to it, and is shown.
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
				"profiles.%s: one signs in to this profile at %s, and its %s leads elsewhere, which a fragment from elsewhere may not do",
				name,
				home,
				key,
			)
		}
	}
	return nil
}

// fetchFragment reads a fragment from a file, or over https (plain http from this machine alone).
func fetchFragment(ctx context.Context, from string) ([]byte, error) {
	failed := func(code protocol.Code, format string, args ...any) error {
		return &protocol.Error{Code: code, Message: terminal.Sanitize(from + ": " + fmt.Sprintf(format, args...))}
	}
	var body io.ReadCloser
	if strings.Contains(from, "://") {
		if strings.Contains(from, "@") { // a password may stand before it, so the address is not shown
			return nil, &protocol.Error{Code: protocol.CodeConfig,
				Message: "the address of a fragment holds an @, as one with a user name or a password does",
				Hint:    "where a password is needed, fetch the file in another way and name it; an @ of the path is written %40"}
		}
		if _, err := secureurl.Parse(from); err != nil {
			return nil, &protocol.Error{Code: protocol.CodeConfig, Message: terminal.Sanitize("the address of a fragment " + err.Error())}
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
			return nil, failed(
				protocol.CodeUnavailable,
				"it can't be fetched (%s): try again, or fetch it in another way and name the file",
				errors.Unwrap(err),
			)
		}
		body = reply.Body
		defer body.Close()
		switch {
		case reply.StatusCode/100 == 3:
			return nil, failed(protocol.CodeConfig, "it redirects elsewhere; name the address that it leads to")
		case reply.StatusCode/100 == 4:
			return nil, failed(protocol.CodeNotFound, "the server answers %d", reply.StatusCode)
		case reply.StatusCode != http.StatusOK:
			return nil, failed(protocol.CodeUnavailable, "the server answers %d", reply.StatusCode)
		}
	} else {
		f, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang us
		if err != nil {
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: terminal.Sanitize(err.Error()),
				Hint: "name a file, or an address that begins with https://"}
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, failed(protocol.CodeInvalid, "it is a folder: name the file in it")
		}
		body = f
	}
	text, err := io.ReadAll(io.LimitReader(body, maxFragment+1))
	switch {
	case err != nil:
		return nil, failed(protocol.CodeUnavailable, "it can't be read")
	case len(text) > maxFragment:
		return nil, failed(protocol.CodeConfig, "it is larger than 64 KiB, which no fragment is")
	}
	return text, nil
}
