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
	handled chan struct{} // taken while none is being handled
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

// without calls do, which may end this image of the program: no signal must be lost with it, so it is not called where one waits or is being handled
// (agent.ErrBusy). Meanwhile SIGTERM and SIGINT end the process then and there. SIGHUP is ignored, also by the next image until that listens:
// config.toml is looked at anyway at the next request.
func (s signals) without(do func() error) error {
	signal.Ignore(syscall.SIGHUP)
	s.stop()
	defer s.listen()
	if len(s.caught) > 0 {
		return agent.ErrBusy
	}
	select {
	case s.handled <- struct{}{}:
		return do()
	default:
		return agent.ErrBusy
	}
}
