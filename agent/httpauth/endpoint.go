package httpauth

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

const (
	// requestTimeout bounds one request to an issuer.
	requestTimeout = 10 * time.Second
	// maxReply bounds the body of its answer, in bytes.
	maxReply = 1 << 20
)

// checkURL refuses a URL to which keys or tokens would travel unencrypted. name is what the error calls it.
func checkURL(name, raw string) error {
	if _, err := secureurl.Parse(raw); err != nil {
		return config(name + " " + err.Error())
	}
	return nil
}

// isPlain reports whether a URL that checkURL accepts is plain http.
func isPlain(raw string) bool {
	u, err := secureurl.Parse(raw)
	return err == nil && u.Scheme == "http"
}

// issuerClient returns the client that asks issuers: c, but it follows no redirect, and always has a time-out.
func issuerClient(c *http.Client) *http.Client {
	if c == nil {
		c = http.DefaultClient
	}
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if own.Timeout == 0 {
		own.Timeout = requestTimeout
	}
	return &own
}

var errTooLarge = errors.New("the answer is larger than 1 MiB")

// send makes a request and returns the status of the answer and its whole body.
func send(c *http.Client, req *http.Request) (status int, body []byte, err error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(body) > maxReply {
		err = errTooLarge
	}
	return resp.StatusCode, body, err
}

func notValid(why string) error {
	return &protocol.Error{Code: protocol.CodeDenied, Message: "the token is not valid: " + why}
}

func notNow(why string) error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: why}
}
