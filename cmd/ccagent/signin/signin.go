// Package signin signs a person in: with the browser, with a code for another device, or with what the person pastes. It also
// signs machines in, without a person.
package signin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/browser"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// Way is how a person signs in.
type Way int

const (
	Fitting   Way = iota // with the browser if there is one, else with a code for another device, else by pasting
	Browser              // with the browser, even if there seems to be none
	NoBrowser            // like Fitting, without a browser
	Device               // with a code that is entered on another device
	Paste                // the address is printed, and the person pastes the answer
)

// Flow is one sign-in, from its beginning until the tokens are there.
type Flow struct {
	Client    *oauth.Client
	Settings  worker.Settings
	Assertion protocol.Secret // for grant jwt-bearer, if it was given for this sign-in alone
	Way       Way
	Screen    *Screen
	In        io.Reader // what is pasted
	Err       io.Writer
	Env       environ.Vars
	// Check is what to look at if no answer ever comes back from the provider. Obtain sets it.
	Check string
}

// ProbeTime is how long it may take to find out whether a sign-in works, and who is signed in.
const ProbeTime = 10 * time.Second

// Obtain signs in, in the way that f.Way says. The caller must call finish when it knows whether the sign-in was saved, after an
// error too, because the person's browser waits for that.
func (f *Flow) Obtain(ctx context.Context) (reply oauth.Reply, finish func(error), err error) {
	finish = func(error) {}
	if f.Settings.Issuer != "" {
		if err := f.Client.Discover(ctx); err != nil {
			return reply, finish, err
		}
		f.Screen.showSites(f.Client.Sites())
	}
	switch f.Settings.Grant {
	case "client_credentials":
		reply, err = f.Client.ClientCredentials(ctx)
		return reply, finish, refused(err)
	case "jwt-bearer":
		assertion, err := worker.Assertion(ctx, f.Settings, f.Assertion)
		if errors.Is(err, protocol.ErrLoginRequired) {
			err = &protocol.Error{Code: protocol.CodeConfig, Message: "grant jwt-bearer needs an assertion",
				Hint: "pass one with --assertion-fd 3 3<FILE, or set assertion_file or assertion_command in config.toml"}
		}
		if err != nil {
			return reply, finish, err
		}
		reply, err = f.Client.JWTBearer(ctx, assertion)
		return reply, finish, refused(err)
	}
	device, err := f.byDevice()
	if err != nil {
		return reply, finish, err
	}
	if device {
		reply, err = f.device(ctx)
		return reply, finish, err
	}
	return f.redirect(ctx)
}

// refused returns the error for a machine whose grant the provider has refused: its sign-in was not completed.
func refused(err error) error {
	if errors.Is(err, protocol.ErrLoginRequired) || errors.Is(err, protocol.ErrExpired) {
		return &protocol.Error{
			Code:    protocol.CodeLogin,
			Message: "the sign-in did not complete: " + err.Error(),
			Hint:    protocol.HintOf(err),
			Detail:  protocol.DetailOf(err),
		}
	}
	return err
}

// byDevice decides between a code for another device and a redirect.
func (f *Flow) byDevice() (bool, error) {
	offered := f.Client.OffersDevice()
	wanted := f.Way == Device || f.Settings.Grant == "device_code" && f.Way != Browser && f.Way != Paste
	switch {
	case wanted && f.Client.EndpointError(oauth.DeviceEndpoint) != nil:
		return false, f.Client.EndpointError(oauth.DeviceEndpoint)
	case wanted && !offered:
		return false, &protocol.Error{Code: protocol.CodeConfig, Message: "the provider offers no device authorization",
			Hint: "use --paste, or set device_url in config.toml"}
	case wanted:
		return true, nil
	case f.Way == Browser, f.Way == Paste:
		return false, nil
	case f.Client.AuthorizeURL == "":
		return offered, nil
	}
	return offered && !f.opens(), nil
}

// opens reports whether the browser is to be opened.
func (f *Flow) opens() bool {
	if f.Way == NoBrowser || f.Way == Paste {
		return false
	}
	return f.Way == Browser || browser.Likely(f.Env)
}

// device signs in on another device (RFC 8628).
func (f *Flow) device(ctx context.Context) (oauth.Reply, error) {
	d, err := f.Client.StartDevice(ctx)
	if err != nil {
		return oauth.Reply{}, err
	}
	f.Screen.showDevice(d)
	stop := f.Screen.wait(ctx, "waiting for you to enter the code")
	reply, err := f.Client.PollDevice(ctx, d)
	stop()
	if ctx.Err() != nil {
		f.Screen.endLine()
	}
	return reply, err
}

// redirect signs in at the authorize endpoint. The answer comes over the loopback interface, or is pasted. The first one counts.
func (f *Flow) redirect(ctx context.Context) (reply oauth.Reply, finish func(error), err error) {
	finish = func(error) {}
	opens := f.opens()
	var loopback *oauth.Loopback
	address := f.Settings.PasteURL
	toUs := opens || address == "" // the browser ends at an address of this machine
	if toUs {
		if loopback, address, err = f.listen(opens); err != nil {
			return reply, finish, err
		}
	}
	if loopback != nil {
		finish = func(err error) { loopback.Finish(err); loopback.Close() }
	}
	f.Check = f.registration(address, toUs)
	attempt, err := f.Client.Authorize(address)
	if err != nil {
		return reply, finish, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The prompt for pasting comes first, so that nothing is lost that is typed while the browser starts.
	pasted, restore := f.Screen.readPasted(ctx, f.In, attempt, !opens)
	defer restore()
	f.Screen.showAddress(attempt.URL, opens, toUs && !opens, pasted != nil)
	if opens {
		closePage, err := browser.Open(f.Env, attempt.URL)
		defer closePage()
		if err != nil {
			terminal.Notice(f.Err, err.Error()+"; open the address yourself")
		}
	}
	arrived := make(chan oauth.Callback, 1)
	if loopback != nil {
		go func() {
			if cb, err := loopback.Wait(ctx, attempt); err == nil {
				arrived <- cb
			}
		}()
	} else if pasted == nil {
		return reply, finish, f.noWay()
	}
	stop := f.Screen.wait(ctx, "waiting for you to sign in")
	remind := time.AfterFunc(patience(ctx), func() { f.Screen.Say(f.Check) })
	defer remind.Stop()
	var cb oauth.Callback
	select {
	case cb = <-arrived:
	case p, ok := <-pasted:
		if !ok || p.err != nil {
			stop()
			return reply, finish, cmp.Or(p.err, ctx.Err(), f.noWay())
		}
		cb = p.callback
	case <-ctx.Done():
		stop()
		return reply, finish, ctx.Err()
	}
	stop()
	remind.Stop()
	restore() // because a question on the terminal may follow
	if cb.Unproven && !terminal.CanAsk() {
		return reply, finish, &protocol.Error{
			Code:    protocol.CodeCallback,
			Message: "this system does not say which of its users completed the sign-in, and there is no terminal to ask on",
			Hint:    "sign in on a terminal, or paste the answer yourself: " + f.Client.Login("--paste"),
		}
	}
	reply, err = f.Client.Exchange(ctx, attempt, cb)
	if err == nil && cb.Unproven {
		err = f.acknowledge(ctx, reply)
	}
	return reply, finish, err
}

// listen opens the port that the browser comes back to, and returns the address of it. If no browser is opened here, the answer
// can be pasted as well: then nobody needs to listen where that can't be done, as on a port that another program has.
func (f *Flow) listen(opens bool) (*oauth.Loopback, string, error) {
	s := f.Settings
	loopback, err := oauth.Listen(s.RedirectHost, s.RedirectPort, s.RedirectPath, s.Name, f.refused)
	if err == nil {
		return loopback, loopback.RedirectURI(), nil
	}
	if opens || s.RedirectPort == 0 {
		hint := protocol.HintOf(err) + "\nor paste the answer, which needs no port: " + f.Client.Login("--paste")
		return nil, "", &protocol.Error{Code: protocol.CodeOf(err), Message: err.Error(), Hint: strings.TrimPrefix(hint, "\n")}
	}
	f.Screen.Say(fmt.Sprintf("ccagent: port %d can't be opened here, so the answer has to be pasted", s.RedirectPort))
	return nil, oauth.RedirectURI(s.RedirectHost, s.RedirectPort, s.RedirectPath), nil
}

// registration says what must be known at the provider for an answer to come back. Most providers show a client or an address
// that they do not know on a page of their own, and send nothing.
func (f *Flow) registration(address string, toUs bool) string {
	if u, err := url.Parse(address); err == nil && toUs && f.Settings.RedirectPort == 0 {
		u.Host = u.Hostname()
		address = u.String() + " (with any port)"
	}
	return "if your browser shows an error of the provider's, nothing comes back from there: check that client_id " +
		terminal.Sanitize(f.Settings.ClientID) + " is registered there, with the redirect address " + terminal.Sanitize(address)
}

// patience is how long a person is left alone before the screen says what to check: the time that a sign-in takes, if there is so
// much.
func patience(ctx context.Context) time.Duration {
	wait := 30 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	return wait
}

// refused warns that another user of this machine tried to complete the sign-in.
func (f *Flow) refused(uid int) {
	f.Screen.Say(
		fmt.Sprintf(
			"ccagent: warning: user %d of this machine sent an answer to this sign-in, and it was refused; the sign-in still waits "+
				"for yours",
			uid,
		),
	)
}

// acknowledge asks whether the account is the person's. It could belong to somebody else who has sent a code of their own.
func (f *Flow) acknowledge(ctx context.Context, reply oauth.Reply) error {
	account := "an account that the provider does not name"
	who := f.who(ctx, reply)
	if name := cmp.Or(who.Email, who.Name, who.Account); name != "" {
		account = terminal.Sanitize(name)
	}
	err := terminal.Confirm(ctx,
		"this system does not say which of its users completed the sign-in. It is for "+account+"; is that you?", "--paste")
	if !errors.Is(err, terminal.ErrDeclined) {
		return err
	}
	return terminal.Declined(&protocol.Error{
		Message: "the sign-in for " + account + " is discarded; nothing was changed",
		Hint:    "sign in again, and paste the answer yourself: " + f.Client.Login("--paste"),
	})
}

// who returns who has signed in. The user profile counts only if it is of the same account as the ID token.
func (f *Flow) who(ctx context.Context, reply oauth.Reply) protocol.Identity {
	named := reply.Identity
	if named.Email != "" || named.Name != "" || f.Client.ProfileURL == "" {
		return named
	}
	asking, cancel := context.WithTimeout(ctx, ProbeTime)
	defer cancel()
	asked, err := f.Client.Identify(asking, reply.AccessToken)
	if err != nil || named.Account != "" && asked.Account != named.Account {
		return named
	}
	return asked
}

func (f *Flow) noWay() error {
	return &protocol.Error{
		Code:    protocol.CodeCallback,
		Message: "nothing was pasted",
		Hint:    "paste the code at the prompt, or on standard input: " + f.Client.Login("--paste"),
	}
}
