package protocol

import (
	"errors"
	"strings"
)

// The conditions a caller can act on. Errors that cross the socket come back as [*Error], for which errors.Is finds the
// sentinel of their code.
var (
	ErrConfig        = errors.New("configuration")       // wrong usage, config.toml, invalid_client, a static key's refresh
	ErrNotFound      = errors.New("not found")           // no such profile, or nothing stored for it
	ErrLoginRequired = errors.New("sign-in required")    // signed out, revoked, or a stub
	ErrExpired       = errors.New("expired")             // expired, and nothing to renew it with
	ErrNoAgent       = errors.New("no agent")            // no agent reachable
	ErrDenied        = errors.New("denied")              // refused by policy
	ErrLocked        = errors.New("locked")              // the agent is locked
	ErrUnavailable   = errors.New("unavailable")         // try again: network, rate limit, provider, time-out
	ErrStorage       = errors.New("storage")             // the store is unreachable, locked, or refuses
	ErrInvalid       = errors.New("invalid credentials") // the record is corrupt or of a wrong type
	ErrLogin         = errors.New("sign-in failed")
	ErrCallback      = errors.New("sign-in callback failed")
)

// Code is an error's number on the wire (docs/protocol.md, "errors"). Numbers are never reused.
type Code uint16

const (
	CodeInternal      Code = 1
	CodeConfig        Code = 2
	CodeNotFound      Code = 3
	CodeLoginRequired Code = 4
	CodeNoAgent       Code = 5
	CodeDenied        Code = 6
	CodeUnavailable   Code = 7
	CodeStorage       Code = 8
	CodeLogin         Code = 9
	CodeExpired       Code = 10
	CodeLocked        Code = 11
	CodeInvalid       Code = 12
	CodeCallback      Code = 13
)

type condition struct {
	code Code
	is   error
	exit int
}

// conditions is the one table of codes, sentinels and exit codes. As a variable it would be filled in at every start of the
// helper, which succeeds without it.
func conditions() []condition {
	return []condition{
		{CodeConfig, ErrConfig, 2},
		{CodeNotFound, ErrNotFound, 3},
		{CodeLoginRequired, ErrLoginRequired, 4},
		{CodeExpired, ErrExpired, 4},
		{CodeNoAgent, ErrNoAgent, 5},
		{CodeDenied, ErrDenied, 6},
		{CodeLocked, ErrLocked, 6},
		{CodeUnavailable, ErrUnavailable, 7},
		{CodeStorage, ErrStorage, 8},
		{CodeInvalid, ErrInvalid, 8},
		{CodeLogin, ErrLogin, 9},
		{CodeCallback, ErrCallback, 9},
	}
}

// Error is a condition with what happened and what to do about it, each for a person to read: one line, no secret, no
// response body.
type Error struct {
	Code    Code
	Message string // lower-case, no full stop, no prefix
	Hint    string // what to do, one line each; "" when there is nothing to say
	// Detail is what a program or a provider said of it in its own words, one cleaned line; "" when it said nothing. A secret may
	// be in it all the same. So it is for the person who has just asked: [Explain] shows it, and it is neither logged nor kept.
	// Error leaves it out.
	Detail string
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target is the sentinel of e's code.
func (e *Error) Is(target error) bool {
	for _, c := range conditions() {
		if c.code == e.Code {
			return target == c.is
		}
	}
	return false
}

// CodeOf returns the code that err crosses the socket with, CodeInternal for an error of no known condition.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	for _, c := range conditions() {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return CodeInternal
}

// HintOf returns the hint that err carries, "" when there is none.
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// DetailOf returns the detail that err carries, "" when there is none.
func DetailOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Detail
	}
	return ""
}

// Says returns what err says to the person who has just asked: what happened, and the detail.
func Says(err error) string {
	text := err.Error()
	if detail := DetailOf(err); detail != "" {
		text += ": " + detail
	}
	return text
}

// ExitCode returns the exit code of both programs for err, 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	code := CodeOf(err)
	for _, c := range conditions() {
		if c.code == code {
			return c.exit
		}
	}
	return 1
}

// Explain returns what both programs write to standard error about err: one line of what happened, then one of each hint.
func Explain(err error) string {
	text := "ccagent: " + oneLine(Says(err), 2*maxText) + "\n"
	for hint := range strings.Lines(lines(HintOf(err), maxText)) {
		text += "hint: " + strings.TrimRight(hint, "\n") + "\n"
	}
	return text
}
