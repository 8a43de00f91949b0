package oauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// answer is a whole HTTP response.
type answer struct {
	status int
	header http.Header
	body   []byte
	client *Client  // that asked
	asked  []string // the secrets that were sent: no text of the answer is shown with one
}

// ok reports whether the answer is a success.
func (a *answer) ok() bool { return a.status >= 200 && a.status <= 299 }

// bounded bounds a request by the client's time-out.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return context.WithTimeout(ctx, timeout)
}

// ask posts a request of the client's to one of its endpoints, with the client's proof of itself, and reads the whole
// answer. what names the endpoint, and secrets are those among the parameters. An error names the host.
func (c *Client) ask(ctx context.Context, what, rawURL string, form url.Values, secrets ...string) (*answer, *Error) {
	to, bad := parseEndpoint(what, rawURL)
	if bad != nil {
		return nil, &Error{Condition: bad}
	}
	header := http.Header{}
	more, failure := c.prove(form, header, to.URL)
	if failure != nil {
		return nil, failure
	}
	body, contentType := []byte(form.Encode()), "application/x-www-form-urlencoded"
	if c.JSON {
		fields := make(map[string]string, len(form))
		for name := range form {
			fields[name] = form.Get(name)
		}
		var err error
		if body, err = json.Marshal(fields); err != nil {
			return nil, fail(protocol.CodeInternal, "the request could not be encoded")
		}
		contentType = "application/json"
	}
	header.Set("Content-Type", contentType)
	a, failure := c.send(ctx, http.MethodPost, to, header, body)
	if failure != nil {
		return nil, failure.at(to)
	}
	a.asked = append(secrets, more...)
	return a, nil
}

// send makes one request and reads its whole answer within ctx, the client's time-out and the limits.
func (c *Client) send(ctx context.Context, method string, to endpoint, header http.Header, body []byte) (*answer, *Error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, to.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fail(protocol.CodeConfig, "the URL of the "+to.what+" can't be used")
	}
	req.GetBody = nil // what net/http can't rewind it can't resend
	for name := range header {
		req.Header.Set(name, header.Get(name))
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ccagent")
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	for name, value := range c.Headers {
		req.Header.Set(name, value)
	}
	if name, ok := validHeader(req.Header); !ok {
		return nil, fail(protocol.CodeConfig, "the header "+clean(name, nil)+" can't be sent as it is configured")
	}

	var uncertified atomic.Bool // we were asked for a certificate, and have none
	// Not http.Client.Do: that one follows redirects, keeps cookies, adds referers.
	roundTrip := c.roundTrip
	if roundTrip == nil {
		transport := c.transport(to)
		defer transport.CloseIdleConnections()
		if c.Certificate == nil {
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				uncertified.Store(true)
				return new(tls.Certificate), nil // none
			}
		}
		roundTrip = transport.RoundTrip
	}
	resp, err := roundTrip(req)
	if err != nil {
		failure := broken(ctx, err)
		if uncertified.Load() &&
			failure.Condition.Hint == "" { // with TLS 1.3 the refusal comes late, and may be lost with the connection
			failure.Condition.Hint = "it asked for a certificate of yours: name it in config.toml, client_cert and client_key"
		}
		return nil, failure
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, broken(ctx, err)
	case len(read) > maxReply:
		return nil, &Error{Condition: unavailable("its answer is larger than 1 MiB"), Ambiguous: true}
	}
	read = bytes.TrimPrefix(read, []byte("\ufeff")) // a byte order mark, which nobody needs before JSON
	return &answer{client: c, status: resp.StatusCode, header: resp.Header, body: read}, nil
}

// fetch reads a JSON object from an endpoint, with a bearer token where there is one.
func (c *Client) fetch(ctx context.Context, to endpoint, bearer protocol.Secret) (*answer, map[string]json.RawMessage, *Error) {
	header := http.Header{}
	if !bearer.Empty() {
		header.Set("Authorization", "Bearer "+bearer.Reveal())
	}
	a, failure := c.send(ctx, http.MethodGet, to, header, nil)
	if failure != nil {
		return nil, nil, failure.at(to)
	}
	a.asked = []string{bearer.Reveal()}
	if !a.ok() {
		return a, nil, nil
	}
	fields, err := a.object()
	if err != nil {
		return nil, nil, a.unreadable().at(to)
	}
	return a, fields, nil
}

// at puts the host before what happened there.
func (e *Error) at(to endpoint) *Error {
	e.Condition.Message = fmt.Sprintf("%s: %s", to.Host, e.Condition.Message)
	return e
}

func fail(code protocol.Code, message string) *Error {
	return &Error{Condition: &protocol.Error{Code: code, Message: message}}
}

func unavailable(message string) *protocol.Error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: message}
}

// object decodes the body: a JSON object, or a form where the server says so, as GitHub's do to who does not ask for JSON.
func (a *answer) object() (map[string]json.RawMessage, error) {
	fields, err := object(a.body)
	if err == nil {
		return fields, nil
	}
	if kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		return nil, err
	}
	form, err := url.ParseQuery(string(a.body))
	if err != nil {
		return nil, err
	}
	fields = map[string]json.RawMessage{}
	for name := range form {
		if fields[name], err = json.Marshal(form.Get(name)); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// object decodes a body that must be one JSON object. Keys keep their case, which decoding into a struct would ignore.
func object(body []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, errors.New("null")
	}
	return fields, nil
}

// text returns a JSON string's value; false for any other type, "" and true for absent or null.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return "", true
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// Reach asks the token endpoint for nothing, without any secret, and returns what time it is there by its Date header (the zero
// time where it has none). Any answer is one. Where the endpoint is not configured the issuer is asked for it.
func (c *Client) Reach(ctx context.Context) (time.Time, error) {
	if c.TokenURL == "" && c.Issuer != "" {
		if err := c.Discover(ctx); err != nil {
			return time.Time{}, err
		}
	}
	to, bad := parseEndpoint(tokenEndpoint, c.TokenURL)
	if bad != nil {
		return time.Time{}, &Error{Condition: bad}
	}
	nameless := *c
	nameless.Headers = nil // secrets travel in them, and whom an issuer names now need not be whom a sign-in is bound to
	a, failure := nameless.send(ctx, http.MethodHead, to, nil, nil)
	if failure != nil {
		return time.Time{}, failure.at(to)
	}
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return time.Time{}, nil
	}
	return date, nil
}
