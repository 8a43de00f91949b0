package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/ccagent/ccagent/agent"
)

// signals are those that a serving agent listens to.
type signals struct {
	caught  chan os.Signal
	handled chan struct{} // taken when each that was caught before has been handled
}

func newSignals() signals {
	s := signals{make(chan os.Signal, 4), make(chan struct{})}
	signal.Reset(os.Interrupt) // from here on it is for us alone: main's context would take it also while we do without it
	s.listen()
	return s
}

func (s signals) listen() {
	signal.Notify(s.caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
}

func (s signals) stop() { signal.Stop(s.caught) }

// handle calls do with each, one after another, until done is closed.
func (s signals) handle(done <-chan struct{}, do func(os.Signal)) {
	for {
		select {
		case caught := <-s.caught:
			do(caught)
		case <-s.handled:
		case <-done:
			return
		}
	}
}

// without calls do, which may end this image of the program: no signal must be lost with it. Each that came before has been handled by then, or do
// is not called. Meanwhile SIGTERM and SIGINT end the process then and there. SIGHUP is ignored, also by the next image until that listens: it looks at
// config.toml anyway when it is next asked.
func (s signals) without(do func() error) error {
	signal.Ignore(syscall.SIGHUP)
	s.stop()
	defer s.listen()
	s.handled <- struct{}{}
	if len(s.caught) > 0 {
		return agent.ErrBusy
	}
	return do()
}
