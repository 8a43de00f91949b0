package oauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// answer is a complete HTTP response.
type answer struct {
	status int
	header http.Header
	body   []byte
	client *Client  // that sent the request
	sent   []string // the secrets in the request: no text of the answer is shown with one of them in it
	basic  bool     // the request authenticated the client in a header, with characters that had to be encoded
}

// ok reports whether the answer is a success.
func (a *answer) ok() bool { return a.status >= 200 && a.status <= 299 }

// withTimeout bounds a request by the client's time-out.
func (c *Client) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return context.WithTimeout(ctx, timeout)
}

// post sends a request to one of the client's endpoints, with what authenticates the client, and reads the whole answer. secrets
// are those in the form. An error names the host.
func (c *Client) post(ctx context.Context, to target, form url.Values, secrets ...string) (*answer, *Error) {
	header := http.Header{}
	more, failure := c.authenticate(form, header, to.URL)
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
	a.sent = append(secrets, more...)
	a.basic = header.Get("Authorization") != "" && encodes(c.ClientID, c.Secret.Reveal())
	return a, nil
}

// send makes one request, and reads its whole answer within ctx, the client's time-out and the limits.
func (c *Client) send(ctx context.Context, method string, to target, header http.Header, body []byte) (*answer, *Error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	resp, done, failure := c.begin(ctx, method, to, header, body)
	if failure != nil {
		return nil, failure
	}
	defer done()
	read, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, transportError(ctx, err)
	case len(read) > maxReply:
		return nil, &Error{Condition: unavailable("its answer is larger than 1 MiB"), Ambiguous: true}
	}
	read = bytes.TrimPrefix(read, []byte("\ufeff")) // a byte order mark has no use before JSON
	return &answer{client: c, status: resp.StatusCode, header: resp.Header, body: read}, nil
}

// begin makes one request, and returns its answer before the body is read. The caller calls done at the end.
func (c *Client) begin(ctx context.Context, method string, to target, header http.Header, body []byte) (
	resp *http.Response, done func(), failure *Error,
) {
	req, failure := c.request(ctx, method, to, header, body)
	if failure != nil {
		return nil, nil, failure
	}
	var wantsCertificate atomic.Bool // the server asked for a certificate, and we have none
	closeIdle := func() {}
	// Not http.Client.Do, which follows redirects, keeps cookies and adds referers.
	roundTrip := c.roundTrip
	if roundTrip == nil {
		transport := c.transport(to)
		closeIdle = transport.CloseIdleConnections
		if c.Certificate == nil {
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				wantsCertificate.Store(true)
				return new(tls.Certificate), nil // none
			}
		}
		roundTrip = transport.RoundTrip
	}
	resp, err := roundTrip(req)
	if err != nil {
		closeIdle()
		failure := transportError(ctx, err)
		if chain := distrusted(err); chain != nil {
			failure.Condition.Hint = c.trustHint(chain)
		}
		// With TLS 1.3 the server's refusal comes late, and may get lost with the connection.
		if wantsCertificate.Load() && failure.Condition.Hint == "" {
			failure.Condition.Hint = "it asked for a client certificate: name yours in config.toml, with client_cert and client_key"
		}
		return nil, nil, failure
	}
	return resp, func() { resp.Body.Close(); closeIdle() }, nil
}

// request makes a request with the client's own headers.
func (c *Client) request(
	ctx context.Context, method string, to target, header http.Header, body []byte,
) (*http.Request, *Error) {
	req, err := http.NewRequestWithContext(ctx, method, to.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fail(protocol.CodeConfig, to.name+" can't be used")
	}
	req.GetBody = nil // so that net/http can't repeat the request
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
		return nil, fail(protocol.CodeConfig, "the header "+printable(name)+" can't be sent as it is configured")
	}
	return req, nil
}

// getObject reads a JSON object from a URL, and sends a bearer token if there is one. fields is nil where the answer is no
// success.
func (c *Client) getObject(ctx context.Context, to target, bearer protocol.Secret) (
	a *answer, fields map[string]json.RawMessage, failure *Error,
) {
	header := http.Header{}
	if !bearer.Empty() {
		header.Set("Authorization", "Bearer "+bearer.Reveal())
	}
	a, failure = c.send(ctx, http.MethodGet, to, header, nil)
	if failure != nil {
		return nil, nil, failure.at(to)
	}
	a.sent = []string{bearer.Reveal()}
	if !a.ok() {
		return a, nil, nil
	}
	fields, err := a.object()
	if err != nil {
		return a, nil, a.unreadable().at(to)
	}
	return a, fields, nil
}

// jwtParts returns the parts of a body that is a JWT in compact form: three of one that is signed, five of one that is encrypted.
// It returns nil for every other body.
func (a *answer) jwtParts() []string {
	parts := strings.Split(string(bytes.TrimSpace(a.body)), ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if _, notObject := object(header); err != nil || notObject != nil || len(parts) != 3 && len(parts) != 5 {
		return nil
	}
	return parts
}

// at puts the host before what happened there.
func (e *Error) at(to target) *Error {
	e.Condition.Message = fmt.Sprintf("%s: %s", to.Host, e.Condition.Message)
	return e
}

func fail(code protocol.Code, message string) *Error {
	return &Error{Condition: &protocol.Error{Code: code, Message: message}}
}

func unavailable(message string) *protocol.Error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: message}
}

// object decodes the body: a JSON object, or a form. GitHub answers with a form unless one asks for JSON. Others label theirs as
// plain text, and that is a form only if it has one of the fields that an answer must have.
func (a *answer) object() (map[string]json.RawMessage, error) {
	fields, err := object(a.body)
	if err == nil {
		return fields, nil
	}
	form, notForm := url.ParseQuery(strings.TrimSpace(string(a.body)))
	if notForm != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	named := kind == "application/x-www-form-urlencoded"
	likely := (kind == "text/plain" || kind == "") && (form.Has("access_token") || form.Has("error") || form.Has("device_code"))
	if !named && !likely {
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

// object decodes a body that must be one JSON object. The names keep their case, which decoding into a struct would ignore.
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

// text returns the value of a JSON string. It returns false for any other type, and "" and true for what is absent or null.
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

// Reach asks the token endpoint for nothing, without any secret, and returns the time that its Date header states, or the zero
// time where there is none. Any answer will do. Where the token endpoint is not configured the issuer is asked for it. Errors are
// ErrConfig and ErrUnavailable.
func (c *Client) Reach(ctx context.Context) (time.Time, error) {
	if c.TokenURL == "" && c.Issuer != "" {
		if err := c.Discover(ctx); err != nil {
			return time.Time{}, err
		}
	}
	to, bad := c.find(tokenEndpoint)
	if bad != nil {
		return time.Time{}, bad
	}
	// The headers may hold secrets, and the endpoint that an issuer names now need not be one that the sign-in is bound to.
	bare := *c
	bare.Headers = nil
	a, failure := bare.send(ctx, http.MethodHead, to, nil, nil)
	if failure != nil {
		return time.Time{}, failure.at(to)
	}
	date, _ := a.date()
	return date, nil
}

// date returns what time it is at the provider.
func (a *answer) date() (time.Time, bool) {
	date, err := http.ParseTime(a.header.Get("Date"))
	return date, err == nil
}
