package oauth

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/ccagent/ccagent/protocol"
)

// transportError says in our own words what went wrong between us and the endpoint. net/http's own text may quote what the other
// side sent ("malformed HTTP response ..."), so it is not passed on.
func transportError(ctx context.Context, err error) *Error {
	if e := beforeSending(err); e != nil {
		return e
	}
	e := &Error{Ambiguous: true}
	var op *net.OpError
	var timeouts interface{ Timeout() bool }
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Condition = unavailable("the request was given up")
	case ctx.Err() != nil, errors.As(err, &timeouts) && timeouts.Timeout():
		e.Condition = unavailable("no complete answer came in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
		e.Condition = unavailable("the connection ended before the answer did")
	default:
		e.Condition = unavailable("what it answered is not HTTP")
	}
	return e
}

// beforeSending sorts the errors after which it is certain that no secret left this machine. It returns nil for others.
func beforeSending(err error) *Error {
	var (
		dns     *net.DNSError
		op      *net.OpError
		verify  *tls.CertificateVerificationError
		refused proxyRefused
		notTLS  tls.RecordHeaderError
	)
	const environment = "in the agent's environment (for ccagent login: in that of this shell)"
	e := &Error{}
	switch {
	case errors.Is(err, errNotLoopback):
		return fail(protocol.CodeConfig, errNotLoopback.Error())
	case errors.Is(err, errProxy):
		e := fail(protocol.CodeConfig, errProxy.Error())
		e.Condition.Hint = "check HTTPS_PROXY and HTTP_PROXY " + environment + "; they look like http://proxy.example.com:3128"
		return e
	case errors.As(err, &refused): // there was no tunnel yet
		e.Condition = unavailable(refused.Error())
		if refused == http.StatusProxyAuthRequired {
			e.Condition.Hint = "it wants a user name and a password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT " + environment
		}
	case errors.As(err, &op) && op.Op == "proxyconnect":
		why := "can't be reached: " + printable(op.Err.Error())
		if errors.As(err, &dns) {
			why = "has a name that can't be resolved"
		}
		e.Condition = unavailable("the proxy on the way to it " + why)
		e.Condition.Hint = "check proxy in config.toml, or HTTPS_PROXY " + environment
	case errors.As(err, &dns):
		e.Condition = unavailable("its name can't be resolved")
	case errors.As(err, &op) && op.Op == "dial":
		e.Condition = unavailable("can't be reached: " + printable(op.Err.Error()))
	case errors.As(err, &verify):
		e.Condition = unavailable("its certificate can't be trusted: " + printable(verify.Err.Error()))
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate"): // a TLS alert
		e.Condition = unavailable("it does not let us in: " + printable(op.Err.Error()))
	case errors.As(err, &notTLS):
		e.Condition = unavailable("it does not speak TLS")
	default:
		return nil
	}
	return e
}

// clean makes text from outside fit for one line of an error (see printable), without the secrets in it, also where they
// are encoded as in a form or a path.
func clean(s string, secrets []string) string {
	for _, secret := range secrets {
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			if form != "" {
				s = strings.ReplaceAll(s, form, protocol.Secret{}.String())
			}
		}
	}
	return printable(s)
}

// maxText bounds a text from outside that is shown, in characters.
const maxText = 200

// printable makes text from outside fit to be shown: one line of at most 200 characters, without control and format characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > maxText {
		s = string(runes[:maxText]) + "…"
	}
	return s
}

// validHeader returns false and the name of the first header that net/http would refuse to send. We check before the request, so
// that the refusal is a configuration error.
func validHeader(h http.Header) (string, bool) {
	for name, values := range h {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
		}) {
			return name, false
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return name, false
			}
		}
	}
	return "", true
}
