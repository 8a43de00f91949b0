package oauth

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Device is one attempt to sign in with a code that the person enters on another device (RFC 8628 section 3.2). It is used once.
type Device struct {
	UserCode                string
	VerificationURI         string
	VerificationURIComplete string // with the code in it; "" where the provider offers none
	Expiry                  time.Time

	code     protocol.Secret
	interval time.Duration
}

const (
	// pollInterval is the interval where the provider states none (RFC 8628 section 3.2), and what slow_down adds (section 3.5).
	pollInterval = 5 * time.Second
	maxInterval  = time.Minute
	maxUserCode  = 64 // characters
)

// StartDevice asks for a code that a person enters elsewhere. Errors are ErrConfig, ErrLogin and ErrUnavailable.
func (c *Client) StartDevice(ctx context.Context) (*Device, error) {
	to, bad := c.find(DeviceEndpoint)
	if bad != nil {
		return nil, bad
	}
	form := url.Values{}
	c.addRequested(form, c.Extra.Authorize)
	form.Set("client_id", c.ClientID)
	started := time.Now()
	a, failure := c.post(ctx, to, form)
	if failure != nil {
		return nil, failure
	}
	if a.failed() {
		return nil, c.incomplete(a.refusal(forClient, started).at(to))
	}
	fields, err := a.object()
	if err != nil {
		return nil, c.incomplete(a.unreadable().at(to))
	}
	code, ok := token(fields["device_code"])
	user, _ := text(fields["user_code"])
	uri, _ := text(fields["verification_uri"])
	if uri == "" {
		uri, _ = text(fields["verification_url"]) // Google's name for it
	}
	uri = presentable(uri)
	complete, _ := text(fields["verification_uri_complete"])
	complete = presentable(complete)
	usable := user != "" && len(user) <= maxUserCode && printable(user) == user
	if !ok || code.Empty() || !usable || uri == "" || leadsToPlain(to, uri) {
		return nil, c.incomplete((&Error{Condition: unavailable("its answer lacks a code, or an address to enter it at")}).at(to))
	}
	if !sameSite(complete, uri) { // a QR code must lead to the address that the person reads beside it
		complete = ""
	}
	return &Device{
		UserCode: user, VerificationURI: uri, VerificationURIComplete: complete, code: code,
		Expiry:   started.Add(seconds(number(fields["expires_in"]), 15*time.Minute)),
		interval: min(max(seconds(number(fields["interval"]), pollInterval), time.Second), maxInterval),
	}, nil
}

// leadsToPlain reports whether an https endpoint sends a person to a page of plain http, where the person would type a password.
func leadsToPlain(from target, raw string) bool {
	u, err := url.Parse(raw)
	return !from.plain && err == nil && u.Scheme == "http"
}

// presentable returns a web address that can be shown to a person and opened: one printable line, without a user name, which
// would stand where one looks for the host. It returns "" for everything else. That includes a host with letters outside ASCII,
// which may look like another host.
func presentable(raw string) string {
	u, err := url.Parse(raw)
	odd := func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) }
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || len(raw) > 2048 || odd(raw) || odd(u.Host) {
		return ""
	}
	u.User = nil
	return u.String()
}

// sameSite reports whether two addresses have the same scheme, host and port.
func sameSite(a, b string) bool {
	one, err := url.Parse(a)
	other, bad := url.Parse(b)
	return err == nil && bad == nil && one.Scheme == other.Scheme && strings.EqualFold(one.Host, other.Host)
}

// PollDevice waits until the person has entered the code, the code has expired, or ctx ends. It asks again where the provider
// can't be reached. Errors are ErrCallback (the person said no), ErrLogin (the code expired, or the sign-in did not complete),
// ErrConfig, and ctx's own.
func (c *Client) PollDevice(ctx context.Context, d *Device) (Reply, error) {
	interval := d.interval
	for {
		// RFC 8628 section 3.5: wait between any two requests. The person needs a moment before the first as well.
		timer := time.NewTimer(min(interval, max(time.Until(d.Expiry), 0)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Reply{}, ctx.Err()
		}
		if !time.Now().Before(d.Expiry) {
			return Reply{}, c.expiredCode()
		}
		form := url.Values{}
		c.addTargets(form)
		addExtra(form, c.Extra.Token)
		form.Set("grant_type", "urn:ietf:params:oauth:grant-type:device_code")
		form.Set("device_code", d.code.Reveal())
		reply, err := c.token(ctx, forCode, form, d.code.Reveal())
		if err == nil {
			return c.withIdentity(ctx, reply, "")
		}
		if ctx.Err() != nil {
			return Reply{}, ctx.Err()
		}
		e, ok := err.(*Error)
		if !ok {
			return Reply{}, err
		}
		if e.code == fold("authorization_pending") {
			continue // ask again after the same interval
		}
		switch {
		case e.code == fold("slow_down"):
			interval = min(interval+pollInterval, maxInterval)
		case expiredCodes.has(e.code):
			return Reply{}, c.expiredCode()
		case deniedCodes.has(e.code):
			return Reply{}, c.denied(Callback{Error: "access_denied"})
		case e.Condition.Code != protocol.CodeUnavailable:
			return Reply{}, c.incomplete(err)
		default: // section 3.5: ask less often where requests fail
			interval = min(max(2*interval, e.RetryAfter), maxInterval)
		}
	}
}

func (c *Client) expiredCode() error {
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the code expired before it was entered",
		Hint:    "get a new one: " + c.Login(),
	}
}

// OffersDevice reports whether the provider has a device authorization endpoint that can be used.
func (c *Client) OffersDevice() bool { return c.DeviceURL != "" }

// hasScope reports whether the client asks for a scope.
func (c *Client) hasScope(scope string) bool { return slices.Contains(c.Scopes, scope) }
