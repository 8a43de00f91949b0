//go:build !linux

package sandbox

import (
	"context"
	"errors"
	"os"

	"github.com/ccagent/ccagent/protocol"
)

// Check returns an error (ErrUnavailable): there is no sandbox on this system.
func Check(context.Context, Options) error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: "--sandbox needs Linux",
		Hint: "run the tool without it, or in a virtual machine with Linux"}
}

func runtimeDir() string { return "" }

// Become returns an error, because [Check] does.
func (s *Sandbox) Become(*os.File) error { return errors.ErrUnsupported }

// Enter returns an error, because there is no sandbox to enter.
func Enter(plan, gateway int) (Tool, error) { return Tool{}, errors.ErrUnsupported }
