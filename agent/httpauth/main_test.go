package httpauth

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: after Close no goroutine is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
