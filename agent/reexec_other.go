//go:build !linux

package agent

import "errors"

// Reexec fails with [errors.ErrUnsupported]: it is for Linux.
func (a *Agent) Reexec(*Listener) error { return errors.ErrUnsupported }

// Inherited returns nothing: no process is re-executed here.
func Inherited() (Inheritance, error) { return Inheritance{}, nil }

// Forget does nothing.
func (*Inheritance) Forget() {}
