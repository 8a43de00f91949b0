package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/ccagent/ccagent/protocol"
)

// system is a keyring of the operating system: values of a few kilobytes, each under a service and an account. Every method
// returns when ctx ends. Errors are ErrNotFound, ErrLocked, and ErrStorage for all else.
type system interface {
	// ready fails unless the keyring answers and is unlocked. It never makes a prompt appear.
	ready(ctx context.Context) error
	get(ctx context.Context, service, account string) (string, error)
	set(ctx context.Context, service, account, value string) error
	delete(ctx context.Context, service, account string) error
}

// How long one call of a keyring may take. A person at a prompt is not waited for: nobody may be there to see it.
const (
	readyLimit = 3 * time.Second
	callLimit  = 10 * time.Second
)

// desktop is the keyring that go-keyring finds. That package knows no time-out: a call that takes too long is left behind,
// with whatever it started ended, until this process ends, which for a worker is soon.
type desktop struct{}

func (desktop) ready(ctx context.Context) error {
	_, err := fence(ctx, readyLimit, func(ctx context.Context) (struct{}, error) { return struct{}{}, ready(ctx) })
	return err
}

func (desktop) get(ctx context.Context, service, account string) (string, error) {
	return fence(ctx, callLimit, func(context.Context) (string, error) { return keyring.Get(service, account) })
}

func (desktop) set(ctx context.Context, service, account, value string) error {
	_, err := fence(ctx, callLimit, func(context.Context) (struct{}, error) {
		return struct{}{}, keyring.Set(service, account, value)
	})
	return err
}

func (desktop) delete(ctx context.Context, service, account string) error {
	_, err := fence(ctx, callLimit, func(context.Context) (struct{}, error) {
		return struct{}{}, keyring.Delete(service, account)
	})
	return err
}

// fence runs one call and gives up on it after limit, or when ctx ends. go-keyring takes a service at its word, so one that
// answers with something of another type makes it panic: that is the service's failure and not ours.
func fence[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error)) (T, error) {
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
				a.err = errors.New("it answered with something that is no answer")
			}
			done <- a
		}()
		a.value, a.err = call(ctx)
	}()
	select {
	case a := <-done:
		return a.value, keyringError(a.err)
	case <-ctx.Done():
		endStarted()
		var none T
		return none, &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "the keyring did not answer in time",
			Hint:    "it may be waiting behind a prompt: unlock it at the desktop, or set store = \"file\" for the profile in config.toml",
		}
	}
}

// keyringError gives an error of go-keyring its place among ours.
func keyringError(err error) error {
	var ours *protocol.Error
	switch {
	case err == nil, errors.As(err, &ours):
		return err
	case errors.Is(err, keyring.ErrNotFound):
		return &protocol.Error{Code: protocol.CodeNotFound, Message: "the keyring has no such item"}
	case errors.Is(err, keyring.ErrSetDataTooBig):
		return &protocol.Error{Code: protocol.CodeStorage, Message: "the keyring takes no value of that size"}
	case isLocked(err):
		return lockedKeyring()
	}
	return unreachable(reason(err))
}

func lockedKeyring() error {
	return &protocol.Error{
		Code:    protocol.CodeLocked,
		Message: "the keyring is locked",
		Hint:    "unlock it (signing in at the desktop does, so does its own program), then try again",
	}
}

func unreachable(why string) error {
	return &protocol.Error{
		Code:    protocol.CodeStorage,
		Message: "the keyring can't be used: " + why,
		Hint:    "set store = \"file\" for the profile in config.toml, or start the keyring's service",
	}
}

// probeLimit bounds ProbeKeyring.
const probeLimit = 3 * time.Second

// ProbeKeyring writes, reads and deletes an item in the system's keyring, and returns nil if all of that worked within
// 3 seconds. Otherwise the error says why a record is better kept elsewhere (ErrLocked, ErrStorage).
func ProbeKeyring(ctx context.Context) error { return probe(ctx, desktop{}, probeLimit) }

func probe(ctx context.Context, sys system, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return (&ring{sys: sys, service: keyringService}).try(ctx, fmt.Sprintf("probe/%d", time.Now().UnixNano()))
}
