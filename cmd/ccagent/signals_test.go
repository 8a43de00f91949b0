package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent"
)

// TestSignalsWithout: a signal that is being handled is not lost with the image of the program, which the handler's effect would have kept.
func TestSignalsWithout(t *testing.T) {
	s := newSignals()
	defer s.stop()
	began, end, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	ended := false
	var handler sync.WaitGroup
	handler.Go(func() {
		s.handle(done, func(os.Signal) {
			close(began)
			<-end
			ended = true
		})
	})
	s.caught <- syscall.SIGTERM
	<-began
	time.AfterFunc(50*time.Millisecond, func() { close(end) }) // time enough for without not to wait
	err := s.without(func() error {
		if !ended {
			t.Error("called while a signal is being handled")
		}
		return os.ErrClosed
	})
	if err != os.ErrClosed {
		t.Error(err)
	}
	close(done)
	handler.Wait()
}

// TestSignalsCaught: one that nobody has handled yet keeps the image.
func TestSignalsCaught(t *testing.T) {
	s := newSignals()
	defer s.stop()
	s.caught <- syscall.SIGTERM
	go func() { <-s.handled }()
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
