package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Refresh renews a sign-in: one request with one refresh token (RFC 6749 section 6), in JSON as provider claude wants it.
// It takes Timeout at most, however slowly the answer drips.
//
// Every error is an [*Error]. With one, Reply may hold a RefreshToken nevertheless: the provider rotated it and spoilt the
// rest of its answer, and the sign-in is lost unless that token is kept.
func (c *Client) Refresh(ctx context.Context, refreshToken protocol.Secret) (Reply, error) {
	if refreshToken.Empty() {
		return Reply{}, fail(protocol.CodeExpired, "there is no refresh token to renew with")
	}
	endpoint, err := parseEndpoint(c.TokenURL)
	if err != nil {
		return Reply{}, &Error{Condition: err}
	}
	form := map[string]string{"grant_type": "refresh_token", "refresh_token": refreshToken.Reveal()}
	if c.ClientID != "" {
		form["client_id"] = c.ClientID
	}
	body, jsonErr := json.Marshal(form)
	if jsonErr != nil {
		return Reply{}, fail(protocol.CodeInternal, "the request could not be encoded")
	}

	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	issued := time.Now().Round(0)
	answer, failure := c.post(ctx, endpoint, "application/json", body)
	if failure != nil {
		failure.Condition.Message = fmt.Sprintf("%s: %s", endpoint.Host, failure.Condition.Message)
		return Reply{}, failure
	}
	reply, failure := answer.judge(issued, refreshToken)
	if failure != nil {
		failure.Condition.Message = fmt.Sprintf("%s: %s", endpoint.Host, failure.Condition.Message)
		return reply, failure
	}
	return reply, nil
}

// answer is a whole HTTP response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// post sends one request and reads its whole answer within ctx and the limits.
func (c *Client) post(ctx context.Context, to endpoint, contentType string, body []byte) (*answer, *Error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fail(protocol.CodeConfig, "token_url can't be used")
	}
	req.GetBody = nil // what net/http can't rewind it can't resend
	req.Header.Set("Content-Type", contentType)
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

	transport := to.transport(c.trust)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req) // not http.Client.Do: that one follows redirects, keeps cookies, adds referers
	if err != nil {
		return nil, broken(ctx, err)
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, broken(ctx, err)
	case len(read) > maxReply:
		return nil, &Error{Condition: unavailable("its answer is larger than 1 MiB"), Ambiguous: true}
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: read}, nil
}

func fail(code protocol.Code, message string) *Error {
	return &Error{Condition: &protocol.Error{Code: code, Message: message}}
}

func unavailable(message string) *protocol.Error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: message}
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
