package store

import (
	"errors"

	"github.com/ccagent/ccagent/protocol"
)

// invalid is the error (ErrInvalid) that something can't be read: what says why. name begins the message.
func invalid(name, what string) error {
	return &protocol.Error{
		Code:    protocol.CodeInvalid,
		Message: name + " " + what,
		Hint:    "nothing was changed; repair it, or move it away and sign in again",
	}
}

// missingError is an [ErrMissing].
type missingError struct{ err *protocol.Error }

func (e missingError) Error() string   { return e.err.Error() }
func (e missingError) Unwrap() []error { return []error{e.err, ErrMissing} }

// newerError says that a later version of ccagent has written something.
type newerError struct{ err *protocol.Error }

func (e newerError) Error() string { return e.err.Error() }
func (e newerError) Unwrap() error { return e.err }

// newer is the error (ErrInvalid) that something is of a later version of ours.
func newer(name, version string) error {
	return newerError{&protocol.Error{
		Code:    protocol.CodeInvalid,
		Message: name + " is of format version " + version + ", and this ccagent knows version 1",
		Hint:    "upgrade ccagent; nothing was changed",
	}}
}

func isNewer(err error) bool {
	var e newerError
	return errors.As(err, &e)
}

// busy is the error (ErrUnavailable) that a living program has the lock at path.
func busy(path, who string) error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: who + " holds " + path,
		Hint:    "try again in a moment",
	}
}

// lost is the error (ErrUnavailable) that somebody has removed our lock at path.
func lost(path string) error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "somebody has removed the lock " + path + " meanwhile",
		Hint:    "try again",
	}
}

// missingFile is the error (ErrNotFound) that there is no file at path.
func missingFile(path string) error {
	return &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored: there is no " + path}
}
