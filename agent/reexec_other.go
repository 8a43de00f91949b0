//go:build !linux

package agent

import (
	"errors"
	"os"
)

// Reexec fails with [errors.ErrUnsupported]: it is for Linux.
func (a *Agent) Reexec(*Listener, *os.File, func(func() error) error) error {
	return errors.ErrUnsupported
}

// Inherited returns nothing: no process is re-executed here.
func Inherited() (Inheritance, error) { return Inheritance{}, nil }

// Forget does nothing.
func (*Inheritance) Forget() {}
