package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/ccagent/ccagent/protocol"
)

// broken says in our own words what went wrong between us and the endpoint. net/http's own text may quote what the other
// side sent ("malformed HTTP response ..."), so it is not passed on.
func broken(ctx context.Context, err error) *Error {
	var (
		dns      *net.DNSError
		op       *net.OpError
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		refused  proxyRefused
		notTLS   tls.RecordHeaderError
		timeouts interface{ Timeout() bool }
	)
	e := &Error{Ambiguous: true}
	switch {
	case errors.Is(err, errNotLoopback):
		return fail(protocol.CodeConfig, errNotLoopback.Error())
	case errors.Is(err, errProxy):
		failure := fail(protocol.CodeConfig, errProxy.Error())
		failure.Condition.Hint = "check HTTPS_PROXY and HTTP_PROXY in the agent's environment: they are like " +
			"http://proxy.example.com:3128"
		return failure
	case errors.As(err, &refused): // before a tunnel there was nothing to send
		e.Condition, e.Ambiguous = unavailable(refused.Error()), false
		if refused == http.StatusProxyAuthRequired {
			e.Condition.Hint = "it wants a user name and a password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT in the agent's environment"
		}
	case errors.As(err, &dns):
		e.Condition, e.Ambiguous = unavailable("its name can't be resolved"), false
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &op) && op.Op == "proxyconnect":
		e.Condition, e.Ambiguous = unavailable("can't be reached: "+clean(op.Err.Error(), nil)), false
	case errors.As(err, &verify):
		e.Condition, e.Ambiguous = unavailable("its certificate is not to be trusted: "+clean(verify.Err.Error(), nil)), false
		if errors.As(verify.Err, &unknown) {
			e.Condition.Hint = "if its authority is your company's own, name that one's certificate in config.toml: ca_file"
		}
	// an alert instead of reading on
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate"):
		e.Condition, e.Ambiguous = unavailable("it does not let us in: "+clean(op.Err.Error(), nil)), false
	case errors.As(err, &notTLS):
		e.Condition, e.Ambiguous = unavailable("it does not speak TLS"), false
	case errors.Is(ctx.Err(), context.Canceled):
		e.Condition = unavailable("the request was given up")
	case ctx.Err() != nil, errors.As(err, &timeouts) && timeouts.Timeout():
		e.Condition = unavailable("no whole answer came in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
		e.Condition = unavailable("the connection ended before the answer did")
	default:
		e.Condition = unavailable("what it answered is not HTTP")
	}
	return e
}

// clean makes text from outside fit for one line of an error: without the secrets, be they as a form encodes them, control and
// format characters, and cut.
func clean(s string, secrets []string) string {
	for _, secret := range secrets {
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			if form != "" {
				s = strings.ReplaceAll(s, form, protocol.Secret{}.String())
			}
		}
	}
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

// validHeader returns the first header that net/http would refuse to send, and false. It is our check, made before the
// request, so that the refusal is a configuration error.
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
