// Package keyring asks the keyring of the operating system, which is the Secret Service on Linux and the Keychain on macOS, and
// bounds how long that takes: its service may hang, or wait for a person. [System] holds items of ours, and [ClaudeItem] is the
// one in which Claude Code keeps its sign-in on macOS.
package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/ccagent/ccagent/protocol"
)

// Service is the service that items of ours are stored under.
const Service = "ccagent"

// How long one call of a keyring may take. A person at a prompt is not waited for: nobody may be there to see it.
const (
	readyLimit = 3 * time.Second
	callLimit  = 10 * time.Second
)

// System is the system's keyring: values of a few kilobytes, each under a service and an account. Errors are ErrNotFound,
// ErrLocked, and ErrStorage for all else. Every method returns when ctx ends, and after 10 seconds at the latest. A call that
// takes longer is left behind, and whatever it has started is ended. So it belongs into a process that ends soon, like a worker.
// Methods may be called concurrently.
type System struct{}

// Ready fails unless the keyring answers and is unlocked. It never makes a prompt appear, and takes 3 seconds at most.
func (System) Ready(ctx context.Context) error {
	_, err := bounded(ctx, readyLimit, func(ctx context.Context) (struct{}, error) { return struct{}{}, ready(ctx) })
	return err
}

// Get returns the value of an item.
func (System) Get(ctx context.Context, service, account string) (string, error) {
	return bounded(ctx, callLimit, func(context.Context) (string, error) { return keyring.Get(service, account) })
}

// Set makes an item, or gives it another value. A call that was given up on may still have its effect later.
func (System) Set(ctx context.Context, service, account, value string) error {
	_, err := bounded(ctx, callLimit, func(context.Context) (struct{}, error) {
		return struct{}{}, keyring.Set(service, account, value)
	})
	return err
}

// Delete removes an item.
func (System) Delete(ctx context.Context, service, account string) error {
	_, err := bounded(ctx, callLimit, func(context.Context) (struct{}, error) {
		return struct{}{}, keyring.Delete(service, account)
	})
	return err
}

// bounded makes one call and gives up on it after limit, or when ctx ends. Package go-keyring knows no time-outs. It trusts its
// service, too, and panics if that answers with something of another type: that is a failure of the service, and not ours.
func bounded[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = errors.New("its answer makes no sense")
			}
			done <- a
		}()
		a.value, a.err = call(ctx)
	}()
	select {
	case a := <-done:
		return a.value, translate(a.err)
	case <-ctx.Done():
		endStarted()
		var none T
		return none, &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "the keyring did not answer in time",
			Hint: "it may be waiting for an answer to a prompt: unlock it at the desktop, " +
				"or set store = \"file\" for the profile in config.toml",
		}
	}
}

// translate makes an error of ours of one of go-keyring.
func translate(err error) error {
	var ours *protocol.Error
	switch {
	case err == nil, errors.As(err, &ours):
		return err
	case errors.Is(err, keyring.ErrNotFound):
		return &protocol.Error{Code: protocol.CodeNotFound, Message: "the keyring has no such item"}
	case errors.Is(err, keyring.ErrSetDataTooBig):
		return &protocol.Error{Code: protocol.CodeStorage, Message: "the keyring accepts no value of that size"}
	case isLocked(err):
		return errLocked()
	}
	return unusable(reason(err))
}

func errLocked() error {
	return &protocol.Error{
		Code:    protocol.CodeLocked,
		Message: "the keyring is locked",
		Hint:    "unlock it at the desktop or in its own program, then try again",
	}
}

func unusable(why string) error {
	return &protocol.Error{
		Code:    protocol.CodeStorage,
		Message: "the keyring can't be used: " + why,
		Hint:    "set store = \"file\" for the profile in config.toml, or start the keyring's service",
	}
}
