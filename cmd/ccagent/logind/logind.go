// Package logind listens to systemd-logind for the events that lock the agent: the machine is about to sleep, or the screen of a
// session is locked.
package logind

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// systemd-logind on the system bus: org.freedesktop.login1(5).
const (
	logind        = "org.freedesktop.login1"
	logindPath    = "/org/freedesktop/login1"
	logindManager = logind + ".Manager"
	logindSession = logind + ".Session"
)

// reconnect is the time between two attempts to connect to the bus.
const reconnect = 30 * time.Second

// Watcher calls a function when logind says that the machine is about to sleep or that the screen of a session is locked.
// Want may be called at any time, and concurrently with Watch.
type Watcher struct {
	log    *slog.Logger
	events chan []string // the latest argument of Want; capacity 1
}

// New returns a Watcher that listens to no event yet.
func New(log *slog.Logger) *Watcher { return &Watcher{log, make(chan []string, 1)} }

// Want sets the events to listen to from now on: "suspend", "screen", both or none.
func (l *Watcher) Want(events []string) {
	for {
		select {
		case l.events <- events:
			return
		case <-l.events: // drop an older argument that was not read yet
		}
	}
}

// Watch calls lock at each event that Want has named, until ctx ends. If it has named none, there is no connection to the bus.
func (l *Watcher) Watch(ctx context.Context, lock func()) {
	var events []string
	for {
		var wait <-chan time.Time
		if len(events) > 0 {
			next, err := l.listen(ctx, events, lock)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				events = next
				continue
			}
			l.log.Warn("can't listen to logind, so no event locks the agent", "error", err, "retry", reconnect)
			wait = time.After(reconnect)
		}
		select {
		case events = <-l.events:
		case <-wait:
		case <-ctx.Done():
			return
		}
	}
}

// listen listens until Want names other events, which it returns, or the connection to the bus breaks.
func (l *Watcher) listen(ctx context.Context, events []string, lock func()) ([]string, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	signals := make(chan *dbus.Signal, 16)
	bus.Signal(signals)
	inhibitor := -1 // while this descriptor is open, logind waits with suspending
	defer func() { release(&inhibitor) }()
	if slices.Contains(events, "suspend") {
		if err := bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(logind), dbus.WithMatchInterface(logindManager),
			dbus.WithMatchMember("PrepareForSleep")); err != nil {
			return nil, err
		}
		inhibitor = l.inhibit(ctx, bus)
	}
	if slices.Contains(events, "screen") {
		if err := bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(logind), dbus.WithMatchInterface(logindSession),
			dbus.WithMatchMember("Lock")); err != nil {
			return nil, err
		}
	}
	l.log.Info("listening to logind", "lock_on", events)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case next := <-l.events:
			return next, nil
		case s, ok := <-signals:
			if !ok {
				return nil, dbus.ErrClosed
			}
			switch s.Name {
			case logindManager + ".PrepareForSleep":
				if len(s.Body) == 1 && s.Body[0] == true {
					lock()
					release(&inhibitor)
				} else if inhibitor < 0 {
					inhibitor = l.inhibit(ctx, bus)
				}
			case logindSession + ".Lock":
				if ours(ctx, bus, s.Path) {
					lock()
				}
			}
		}
	}
}

// inhibit asks logind to wait with suspending until the descriptor that it returns is closed. It returns -1 if logind refuses.
// Then the agent is locked too, but maybe only after the machine has woken up.
func (l *Watcher) inhibit(ctx context.Context, bus *dbus.Conn) int {
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var fd dbus.UnixFD
	err := bus.Object(logind, logindPath).
		CallWithContext(asking, logindManager+".Inhibit", 0, "sleep", "ccagent", "locks the agent", "delay").
		Store(&fd)
	if err != nil {
		l.log.Warn("logind does not wait until the agent is locked before it suspends", "error", err)
		return -1
	}
	unix.CloseOnExec(int(fd))
	return int(fd)
}

// release closes the descriptor of inhibit, so that logind goes on.
func release(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
		*fd = -1
	}
}

// ours reports whether a session belongs to our user. If that can't be found out, it counts as ours.
func ours(ctx context.Context, bus *dbus.Conn, session dbus.ObjectPath) bool {
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var user dbus.Variant
	if bus.Object(logind, session).
		CallWithContext(asking, "org.freedesktop.DBus.Properties.Get", 0, logindSession, "User").
		Store(&user) !=
		nil {
		return true
	}
	pair, ok := user.Value().([]any)
	if !ok || len(pair) == 0 {
		return true
	}
	uid, ok := pair[0].(uint32)
	return !ok || uid == uint32(os.Geteuid())
}
