package share

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// TestShareKeepsNobodyWaiting: while many requests wait for a provider that does not answer, another one gets a token that is in
// the agent's memory.
func TestShareKeepsNobodyWaiting(t *testing.T) {
	const waiting = 20
	fake := protocoltest.NewFake()
	asked, answer := make(chan struct{}, waiting), make(chan struct{})
	fake.Answer = func(_ context.Context, req protocol.TokenRequest) (protocol.Token, error) {
		if req.Profile == "slow" {
			asked <- struct{}{}
			<-answer
		}
		return protocol.Token{Profile: req.Profile, Value: protocol.NewSecret("fake-" + req.Profile), Kind: protocol.KindBearer}, nil
	}
	t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, fake))
	path := filepath.Join(protocoltest.SocketDir(t), "s")
	l, err := Listen(path, nil, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, []string{"good", "slow"}, false, nil, -1, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is left behind")
		}
	})
	client := protocol.NewClient(path)
	defer client.Close()
	ended := make(chan error, waiting)
	for range waiting {
		go func() {
			_, err := client.Token(t.Context(), protocol.TokenRequest{Profile: "slow"})
			ended <- err
		}()
	}
	for range waiting {
		<-asked
	}
	if got, err := client.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Value.Reveal() != "fake-good" {
		t.Errorf("%q, %v", got.Value.Reveal(), err)
	}
	close(answer)
	for range waiting {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestShareIsKept takes the socket and its folder away while it is served: it is made again, with its mode.
func TestShareIsKept(t *testing.T) {
	t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, protocoltest.NewFake(protocoltest.Profile{Name: "good", Token: "fake-good"})))
	dir := protocoltest.SocketDir(t) + "/box"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(dir+"/s", []uint32{12345}, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, []string{"good"}, false, []uint32{12345}, -1, slog.New(slog.DiscardHandler))
	}()
	answered := func() {
		t.Helper()
		for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
			client := protocol.NewClient(dir + "/s")
			got, err := client.Token(t.Context(), protocol.TokenRequest{})
			client.Close()
			if err == nil && got.Value.Reveal() == "fake-good" {
				break
			}
			if time.Since(began) > 20*time.Second {
				t.Fatal(err)
			}
		}
		if info, err := os.Lstat(dir + "/s"); err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("%v, %v", info, err)
		}
	}
	answered()
	os.Remove(dir + "/s")
	answered()
	if err := errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	// Where a folder comes in the place of another is not watched: the next look finds it.
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if did, err := l.hold(); did || err == nil {
			break
		} else if time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
	answered()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir + "/s"); err == nil {
		t.Error("the socket is left behind")
	}
}
