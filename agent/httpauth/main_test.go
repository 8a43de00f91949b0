package httpauth

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: what is closed leaves no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
