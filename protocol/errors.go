package protocol

import (
	"errors"
	"strings"
)

// The conditions that a caller can act on. An error that comes over the socket is an [*Error], for which errors.Is finds the
// sentinel of its code.
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

// Code is an error's number on the wire (§5). Numbers are never reused.
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

// conditions is the one table of codes, sentinels and exit codes. It is a function because a variable would be filled in at every
// start of the helper, which mostly needs none of it.
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

// Error is a condition, with what happened and what to do about it for a person to read. Neither holds a secret or a provider's
// response body.
type Error struct {
	Code    Code
	Message string // one line, lower case, without a full stop
	Hint    string // what to do, one line for each thing; "" if there is nothing to do
	// Detail is what a program or a provider said of it in its own words, on one line without control characters; "" if it said
	// nothing. There may be a secret in it. So it is only for the person who has just asked: [Explain] shows it, Error leaves it
	// out, and it is neither logged nor kept.
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

// CodeOf returns the code with which err is sent over the socket: CodeInternal if it is none of the conditions.
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

// HintOf returns the hint of err, "" if it has none.
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// DetailOf returns the detail of err, "" if it has none.
func DetailOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Detail
	}
	return ""
}

// Says returns what to tell the person who has just asked: what happened, and the detail.
func Says(err error) string {
	text := err.Error()
	if detail := DetailOf(err); detail != "" {
		text += ": " + detail
	}
	return text
}

// ExitCode returns the exit code of both programs for err (§5), 0 for nil.
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

// Explain returns what both programs write to standard error about err: a line with what happened, then a line for each hint.
func Explain(err error) string {
	text := "ccagent: " + oneLine(Says(err), 2*maxText) + "\n"
	for hint := range strings.Lines(lines(HintOf(err), maxText)) {
		text += "hint: " + strings.TrimRight(hint, "\n") + "\n"
	}
	return text
}
