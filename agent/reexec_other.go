//go:build !linux

package agent

import "errors"

// Reexec is Linux's alone.
func (a *Agent) Reexec(*Listener) error { return errors.ErrUnsupported }

// Inherited returns nothing.
func Inherited() (Inheritance, error) { return Inheritance{}, nil }

// Forget does nothing.
func (*Inheritance) Forget() {}
