package oauth

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Device is one attempt to sign in on another device (RFC 8628 section 3.2). It is used once.
type Device struct {
	UserCode                string
	VerificationURI         string
	VerificationURIComplete string // with the code in it; "" when not offered
	Expiry                  time.Time

	code     protocol.Secret
	interval time.Duration
}

// RFC 8628: the interval where none is said (section 3.2) and what slow_down adds to it (section 3.5).
const (
	pollInterval = 5 * time.Second
	maxInterval  = time.Minute
	maxUserCode  = 64
)

// StartDevice asks for a code that a person enters elsewhere. Errors are ErrConfig, ErrLogin and ErrUnavailable.
func (c *Client) StartDevice(ctx context.Context) (*Device, error) {
	form := url.Values{}
	c.wish(form)
	form.Set("client_id", c.ClientID)
	started := time.Now()
	a, failure := c.ask(ctx, "device authorization endpoint", c.DeviceURL, form)
	if failure != nil {
		return nil, failure
	}
	to, _ := parseEndpoint("device authorization endpoint", c.DeviceURL)
	if a.failed() {
		return nil, incomplete(a.refused(ourClient, started).at(to))
	}
	fields, err := a.object()
	if err != nil {
		return nil, incomplete(a.unreadable().at(to))
	}
	code, ok := token(fields["device_code"])
	user, _ := text(fields["user_code"])
	uri, _ := text(fields["verification_uri"])
	if uri == "" {
		uri, _ = text(fields["verification_url"]) // Google's name for it
	}
	uri = presentable(uri)
	whole, _ := text(fields["verification_uri_complete"])
	whole = presentable(whole)
	usable := user != "" && len(user) <= maxUserCode && clean(user, nil) == user
	if !ok || code.Empty() || !usable || uri == "" || to.leadsToPlain(uri) {
		return nil, incomplete((&Error{Condition: unavailable("its answer lacks a code or an address to enter it at")}).at(to))
	}
	if !sameSite(whole, uri) { // what a QR code leads to is what the person reads beside it
		whole = ""
	}
	return &Device{
		UserCode: user, VerificationURI: uri, VerificationURIComplete: whole, code: code,
		Expiry:   started.Add(lifetime(fields["expires_in"], 15*time.Minute)),
		interval: min(max(lifetime(fields["interval"], pollInterval), time.Second), maxInterval),
	}, nil
}

// leadsToPlain reports whether an https endpoint sends a person to plain http, where a password would be typed next.
func (e endpoint) leadsToPlain(raw string) bool {
	u, err := url.Parse(raw)
	return !e.plain && err == nil && u.Scheme == "http"
}

// presentable returns a web address of one printable line as a person may be shown it and open it: without a user name, which
// stands where one looks for the host. It returns "" for anything else, a host in letters of its own included, which may look
// like others.
func presentable(raw string) string {
	u, err := url.Parse(raw)
	odd := func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) }
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || len(raw) > 2048 || odd(raw) || odd(u.Host) {
		return ""
	}
	u.User = nil
	return u.String()
}

// sameSite reports whether two addresses have scheme, host and port in common.
func sameSite(a, b string) bool {
	one, err := url.Parse(a)
	other, bad := url.Parse(b)
	return err == nil && bad == nil && one.Scheme == other.Scheme && strings.EqualFold(one.Host, other.Host)
}

// PollDevice waits until the person has entered the code, the code expires or ctx ends. Errors are ErrLogin (denied, expired),
// ErrConfig, and ctx's. A provider that can't be reached meanwhile is asked again.
func (c *Client) PollDevice(ctx context.Context, d *Device) (Reply, error) {
	interval := d.interval
	for {
		// RFC 8628 section 3.5: wait between any two requests, and the person needs a moment before the first.
		timer := time.NewTimer(min(interval, max(time.Until(d.Expiry), 0)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Reply{}, ctx.Err()
		}
		if !time.Now().Before(d.Expiry) {
			return Reply{}, expiredCode()
		}
		reply, err := c.token(ctx, aCode, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {d.code.Reveal()},
		}, d.code.Reveal())
		if err == nil {
			return c.identified(ctx, reply, "")
		}
		if ctx.Err() != nil {
			return Reply{}, ctx.Err()
		}
		e, ok := err.(*Error)
		if !ok {
			return Reply{}, err
		}
		switch {
		case e.code == fold("authorization_pending"):
		case e.code == fold("slow_down"):
			interval = min(interval+pollInterval, maxInterval)
		case lapsed[e.code]:
			return Reply{}, expiredCode()
		case declined[e.code]:
			return Reply{}, Callback{Error: "access_denied"}.refusal()
		case e.Condition.Code != protocol.CodeUnavailable:
			return Reply{}, incomplete(err)
		default:
			interval = min(max(2*interval, e.RetryAfter), maxInterval) // section 3.5: back off where a connection fails
		}
	}
}

func expiredCode() error {
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the code expired before it was entered",
		Hint:    "get a new one: ccagent login",
	}
}

// OffersDevice reports whether the device flow can be used.
func (c *Client) OffersDevice() bool { return c.DeviceURL != "" }

// hasScope reports whether the client asks for a scope.
func (c *Client) hasScope(scope string) bool { return slices.Contains(c.Scopes, scope) }
