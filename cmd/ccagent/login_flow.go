package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/browser"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// obtain signs in, in the way that fits. finish is called when it is known whether the sign-in was saved, also after an
// error: the person's browser waits for it.
func (s *signIn) obtain(ctx context.Context) (reply oauth.Reply, finish func(error), err error) {
	finish = func(error) {}
	if s.settings.Issuer != "" {
		if err := s.client.Discover(ctx); err != nil {
			return reply, finish, err
		}
		s.screen.showSites(s.client.Sites())
	}
	switch s.settings.Grant {
	case "client_credentials":
		reply, err = s.client.ClientCredentials(ctx)
		return reply, finish, refused(err)
	case "jwt-bearer":
		assertion, err := worker.Assertion(ctx, s.settings, s.assertion)
		if errors.Is(err, protocol.ErrLoginRequired) {
			err = &protocol.Error{Code: protocol.CodeConfig, Message: "grant jwt-bearer needs an assertion",
				Hint: "hand one over with --assertion-fd 3 3<FILE, or set assertion_file or assertion_command in config.toml"}
		}
		if err != nil {
			return reply, finish, err
		}
		reply, err = s.client.JWTBearer(ctx, assertion)
		return reply, finish, refused(err)
	}
	device, err := s.byDevice()
	if err != nil {
		return reply, finish, err
	}
	if device {
		reply, err = s.device(ctx)
		return reply, finish, err
	}
	return s.redirect(ctx)
}

// refused makes a machine's grant that the provider refused a sign-in that did not complete.
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
func (s *signIn) byDevice() (bool, error) {
	offered := s.client.OffersDevice()
	wanted := s.c.Bool("device") || s.settings.Grant == "device_code" && !s.c.Bool("browser") && !s.c.Bool("paste")
	switch {
	case wanted && s.client.EndpointError(oauth.DeviceEndpoint) != nil:
		return false, s.client.EndpointError(oauth.DeviceEndpoint)
	case wanted && !offered:
		return false, &protocol.Error{Code: protocol.CodeConfig, Message: "the provider offers no device authorization",
			Hint: "use --paste, or set device_url in config.toml"}
	case wanted:
		return true, nil
	case s.c.Bool("browser"), s.c.Bool("paste"):
		return false, nil
	case s.client.AuthorizeURL == "":
		return offered, nil
	}
	return offered && !s.opens(), nil
}

// opens reports whether the browser is to be opened.
func (s *signIn) opens() bool {
	if s.c.Bool("no-browser") || s.c.Bool("paste") {
		return false
	}
	return s.c.Bool("browser") || browser.Likely(getenv)
}

// device signs in on another device (RFC 8628).
func (s *signIn) device(ctx context.Context) (oauth.Reply, error) {
	d, err := s.client.StartDevice(ctx)
	if err != nil {
		return oauth.Reply{}, err
	}
	s.screen.showDevice(d)
	stop := s.screen.wait(ctx, "waiting for you to enter the code")
	reply, err := s.client.PollDevice(ctx, d)
	stop()
	if ctx.Err() != nil {
		s.screen.endLine()
	}
	return reply, err
}

// redirect signs in at the authorize endpoint. Its answer comes over the loopback interface or is pasted: the first that
// comes is taken.
func (s *signIn) redirect(ctx context.Context) (reply oauth.Reply, finish func(error), err error) {
	finish = func(error) {}
	opens := s.opens()
	var loopback *oauth.Loopback
	address := s.settings.PasteURL
	if opens || address == "" {
		if loopback, err = oauth.Listen(s.settings.RedirectHost, s.settings.RedirectPort, s.settings.Name, s.refused); err != nil {
			return reply, finish, err
		}
		finish = func(err error) { loopback.Finish(err); loopback.Close() }
		address = loopback.RedirectURI()
	}
	attempt, err := s.client.Authorize(address)
	if err != nil {
		return reply, finish, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The paste prompt first: what is typed while the browser starts is not lost.
	pasted, restore := s.screen.readPasted(ctx, s.c.App.Reader, attempt, !opens)
	defer restore()
	s.screen.showAddress(attempt.URL, opens, loopback != nil && !opens, pasted != nil)
	if opens {
		closePage, err := browser.Open(getenv, attempt.URL)
		defer closePage()
		if err != nil {
			terminal.Notice(s.c.App.ErrWriter, err.Error()+": open the address yourself")
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
		return reply, finish, noWay()
	}
	stop := s.screen.wait(ctx, "waiting for you to sign in")
	var cb oauth.Callback
	select {
	case cb = <-arrived:
	case p, ok := <-pasted:
		if !ok || p.err != nil {
			stop()
			return reply, finish, cmp.Or(p.err, ctx.Err(), noWay())
		}
		cb = p.callback
	case <-ctx.Done():
		stop()
		return reply, finish, ctx.Err()
	}
	stop()
	restore() // the terminal, for a question
	if cb.Unproven && !terminal.CanAsk() {
		return reply, finish, &protocol.Error{
			Code:    protocol.CodeCallback,
			Message: "this system does not say which of its users completed the sign-in, and there is no terminal to ask on",
			Hint: "sign in on a terminal, or hand the answer over yourself: " + protocol.ShellLine(
				"ccagent",
				"login",
				"--paste",
				s.settings.Name,
			),
		}
	}
	reply, err = s.client.Exchange(ctx, attempt, cb)
	if err == nil && cb.Unproven {
		err = s.acknowledge(ctx, reply)
	}
	return reply, finish, err
}

// refused says that another user of this machine wanted to complete the sign-in.
func (s *signIn) refused(uid int) {
	s.screen.say(
		fmt.Sprintf(
			"ccagent: warning: user %d of this machine brought an answer to this sign-in, which was not taken; it goes on waiting for "+
				"yours",
			uid,
		),
	)
}

// acknowledge asks whether the account is the person's. It could be that of somebody who brought his own code.
func (s *signIn) acknowledge(ctx context.Context, reply oauth.Reply) error {
	account := "an account that the provider does not name"
	who := s.who(ctx, reply)
	if name := cmp.Or(who.Email, who.Name, who.Account); name != "" {
		account = terminal.Sanitize(name)
	}
	err := terminal.Confirm(
		ctx,
		"this system does not say which of its users completed the sign-in. It is for "+account+"; is that you?",
		"--paste",
	)
	if !errors.Is(err, terminal.ErrDeclined) {
		return err
	}
	return &exitError{&protocol.Error{
		Message: "the sign-in is not kept: it is for " + account + "; nothing was changed",
		Hint:    "sign in again, and paste the answer yourself: " + protocol.ShellLine("ccagent", "login", "--paste", s.settings.Name),
	}, exitDeclined}
}

// who is whose sign-in a reply is of. What the user profile says of another account than the ID token's does not count.
func (s *signIn) who(ctx context.Context, reply oauth.Reply) protocol.Identity {
	named := reply.Identity
	if named.Email != "" || named.Name != "" || s.client.ProfileURL == "" {
		return named
	}
	asking, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	asked, err := s.client.Identify(asking, reply.AccessToken)
	if err != nil || named.Account != "" && asked.Account != named.Account {
		return named
	}
	return asked
}

func noWay() error {
	return &protocol.Error{
		Code:    protocol.CodeCallback,
		Message: "nothing was pasted",
		Hint:    "paste the code at the prompt, or on standard input: ccagent login --paste",
	}
}
