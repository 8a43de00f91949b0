package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/ccagent/ccagent/agent"
)

// TestSignalsWithout: a signal that has been caught and not handled is not lost with the image of the program.
func TestSignalsWithout(t *testing.T) {
	s := signals{make(chan os.Signal, 1), make(chan struct{})}
	defer s.stop()
	done, began, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
	defer close(done)
	go s.handle(done, func(os.Signal) {
		began <- struct{}{}
		<-end
	})
	called := 0
	call := func() error { called++; return os.ErrClosed }
	calls := func() { // once the handler waits for signals
		called = 0
		for s.without(call) == agent.ErrBusy {
			runtime.Gosched()
		}
		if called != 1 {
			t.Errorf("called %d times", called)
		}
	}
	calls()
	s.caught <- syscall.SIGTERM
	<-began
	if err := s.without(call); err != agent.ErrBusy || called != 1 {
		t.Errorf("with one being handled: %v", err)
	}
	close(end)
	calls()
}

// TestSignalsWaiting: nor is one that has been caught since the handler looked.
func TestSignalsWaiting(t *testing.T) {
	s := signals{make(chan os.Signal, 1), make(chan struct{}, 1)} // whose handler, it seems, handles none
	defer s.stop()
	s.caught <- syscall.SIGTERM
	if err := s.without(func() error { t.Error("called"); return nil }); err != agent.ErrBusy {
		t.Error(err)
	}
}

// TestSignalsAlone: nobody else swallows the signals that without leaves to the kernel.
func TestSignalsAlone(t *testing.T) {
	main := make(chan os.Signal, 1)
	signal.Notify(main, os.Interrupt)
	defer signal.Stop(main)
	s := newSignals()
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-s.caught
	s.stop() // waits until all have it who get it
	if len(main) > 0 {
		t.Error("SIGINT has another listener")
	}
}
