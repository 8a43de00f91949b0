package keyring

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// TestCallHangs: nothing waits for a keyring longer than it may.
func TestCallHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		started := time.Now()
		_, err := bounded(t.Context(), callLimit, func(context.Context) (string, error) {
			<-release
			return "late", nil
		})
		if !errors.Is(err, protocol.ErrStorage) {
			t.Error(err)
		}
		if took := time.Since(started); took != callLimit {
			t.Errorf("a call took %v", took)
		}
		close(release)
	})
}

// TestCallSurvivesPanics: go-keyring panics where a service answers with something of another type.
func TestCallSurvivesPanics(t *testing.T) {
	t.Parallel()
	_, err := bounded(t.Context(), time.Minute, func(context.Context) (string, error) {
		var v any = 1
		return v.(string), nil
	})
	if !errors.Is(err, protocol.ErrStorage) {
		t.Error(err)
	}
}
