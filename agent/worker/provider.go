package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// ClientOf makes the client of a profile's provider. clientSecret is the one that is kept with the record, or about to be.
// Endpoints that are not configured are missing still: see [oauth.Client.Discover]. It fails with ErrConfig when the client's
// key can't be read.
func ClientOf(s Settings, clientSecret protocol.Secret) (*oauth.Client, error) {
	c := &oauth.Client{
		Profile:       s.Name,
		Issuer:        s.Issuer,
		AuthorizeURL:  s.AuthorizeURL,
		TokenURL:      s.TokenURL,
		DeviceURL:     s.DeviceURL,
		RevokeURL:     s.RevokeURL,
		IntrospectURL: s.IntrospectURL,
		ProfileURL:    s.ProfileURL,
		ClientID:      s.ClientID,
		Auth:          oauth.Auth(s.ClientAuth),
		Secret:        clientSecret,
		Scopes:        s.Scopes,
		Audience:      s.Audience,
		Resource:      s.Resource,
		Params:        s.Params,
		Extra:         oauth.Extra{Authorize: s.AuthorizeParams, Token: s.TokenParams, Refresh: s.RefreshParams},
		JSON:          s.Provider.Traits().Defaults.JSON,
		UserAgent:     s.UserAgent,
		Headers:       s.Headers,
		Timeout:       s.Timeout,
		MCP:           s.MCPURL != "",
		Registered:    s.Registered,
	}
	if s.ClientAuth == "none" {
		c.Auth = oauth.None
	}
	if err := connectBy(c, s); err != nil {
		return nil, err
	}
	if c.Auth != oauth.PrivateKeyJWT {
		return c, nil
	}
	data, err := readSmall(s.ClientKeyFile)
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "the client's key can't be read: " + err.Error(),
			Hint: "check client_key_file in config.toml"}
	}
	if c.Key, err = oauth.ParseKey(data); err != nil {
		return nil, err
	}
	return c, nil
}

// maxSmall bounds a key or an assertion in a file.
const maxSmall = 64 << 10

func readSmall(path string) ([]byte, error) { return readBounded(path, maxSmall) }

func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang us
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readOpen(f, limit)
}

func readOpen(f *os.File, limit int) ([]byte, error) {
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New(f.Name() + " is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%s is larger than %d KiB", f.Name(), limit>>10)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // what is read here is never written, and the mark says nothing
	if marked := lookalike.Marked(data); err == nil && marked != "" {
		err = fmt.Errorf("%s %s, and must be UTF-8", f.Name(), marked)
	}
	return data, err
}

// providerOf makes the provider of a job.
func providerOf(t *task) renewal.Provider {
	switch traits := t.traits(); {
	case traits.SignsIn:
		return signInProvider{t}
	case traits.Stored:
		return keyProvider{t}
	}
	return commandProvider{t.settings}
}

// keyProvider is a key that a person has stored.
type keyProvider struct{ *task }

// Prepare fails, because there is nobody to ask for a key.
func (p keyProvider) Prepare(_ context.Context, r store.Record) (renewal.Request, error) {
	if !p.Job.Force {
		return renewal.Request{}, notRenewable(r)
	}
	return renewal.Request{}, &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "profile " + p.Job.Profile + " has a static key, which can't be renewed",
		Hint:    "replace it: " + p.traits().Obtain(p.Job.Profile),
	}
}

// client is the client for a record, and the origin that the record's secrets may go to. Where the token endpoint is not
// configured the issuer is asked for it, once in a worker's life; the record stays bound to where it belongs all the same.
func (t *task) client(ctx context.Context, r store.Record) (c *oauth.Client, origin string, err error) {
	c, err = ClientOf(t.settings, r.ClientSecret)
	if err != nil {
		return nil, "", err
	}
	c.Bound = homes(t.settings, r)
	if c.TokenURL == "" && c.Issuer != "" {
		if err := c.Discover(ctx); err != nil {
			return nil, "", err
		}
	}
	origin, err = t.boundTo(r, c.TokenURL)
	return c, origin, err
}

// homes are the origins that a record's secrets may go to: those that the person was shown at the sign-in, and those that
// config.toml names. A record that was made before the former were kept, or that comes from elsewhere, has its token endpoint's
// origin alone.
func homes(s Settings, r store.Record) []string {
	all := append([]string{}, r.Origins...)
	if r.TokenOrigin != "" {
		all = append(all, r.TokenOrigin)
	}
	named := []string{s.Issuer, s.AuthorizeURL, s.TokenURL, s.DeviceURL, s.RevokeURL, s.IntrospectURL, s.ProfileURL}
	for _, endpoint := range named {
		if origin, err := oauth.Origin(endpoint); err == nil {
			all = append(all, origin)
		}
	}
	return all
}

// boundTo returns the origin of a token endpoint, and refuses one that is not the record's.
func (t *task) boundTo(r store.Record, tokenURL string) (string, error) {
	origin, err := oauth.Origin(tokenURL)
	if err != nil {
		return "", err
	}
	one := t.traits().Defaults.Origins
	same := r.TokenOrigin == origin || slices.Contains(one, r.TokenOrigin) && slices.Contains(one, origin)
	if r.TokenOrigin != "" && !same {
		return "", &protocol.Error{
			Code: protocol.CodeLoginRequired,
			Message: fmt.Sprintf("this sign-in belongs to %s and the token endpoint is now at %s, where its secrets are not sent",
				r.TokenOrigin, origin),
			Hint: "if the provider has moved, sign in again: " + protocol.ShellLine("ccagent", "login", t.settings.Name) +
				"\nif it has not, see to it that token_url or issuer leads there again, then: " +
				protocol.ShellLine("ccagent", "refresh", "-p", t.settings.Name),
		}
	}
	return origin, nil
}

// asksAgain reports whether the profile's grant renews by asking anew, without a refresh token.
func (t *task) asksAgain() bool {
	return t.settings.Grant == "client_credentials" || t.settings.Grant == "jwt-bearer"
}

// Assertion returns the assertion of grant jwt-bearer: from the file or the command that the settings name, else the one that
// is kept. Errors are ErrConfig, ErrUnavailable (the command failed) and ErrLoginRequired (there is none).
func Assertion(ctx context.Context, s Settings, kept protocol.Secret) (protocol.Secret, error) {
	var data []byte
	var err error
	switch {
	case s.AssertionFile != "":
		if data, err = readSmall(s.AssertionFile); err != nil {
			return protocol.Secret{}, &protocol.Error{Code: protocol.CodeConfig, Message: "the assertion can't be read: " + err.Error(),
				Hint: "check assertion_file in config.toml"}
		}
	case len(s.AssertionCommand) > 0:
		printed, said, err := runCommand(ctx, s.AssertionCommand, s.Timeout)
		if err != nil {
			return protocol.Secret{}, err
		}
		assertion, err := printedToken(string(printed))
		if err != nil {
			err = misprintError(protocol.CodeConfig, s.AssertionCommand, err, said, printed)
		}
		return assertion, err
	case !kept.Empty():
		return kept, nil
	default:
		return protocol.Secret{}, &protocol.Error{
			Code:    protocol.CodeLoginRequired,
			Message: "no assertion is kept to ask for a token with",
			Hint:    "hand one over: ccagent login " + s.Name,
		}
	}
	text := strings.TrimSpace(string(data))
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return protocol.Secret{}, &protocol.Error{Code: protocol.CodeConfig, Message: "what was given as an assertion is not a JWT"}
	}
	return protocol.NewSecret(text), nil
}
