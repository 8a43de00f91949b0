// Package agent holds a person's tokens in memory, renews them one at a time per profile before they run out, and serves them
// over a Unix socket.
//
// [New] makes an agent from [Options]. [Agent.Serve] answers on a socket (see package socket) until [Agent.Stop], and
// [Agent.Close] waits for what is under way. The agent touches neither a store nor the network: a [Runner] does one job at a time
// for it, in a process of its own (package spawn). A record is opaque here: a blob beside a token and an expiry.
//
// # Within a program
//
// An [Agent] implements [protocol.Agent] in-process too: a program that wants no second process calls [Agent.Token] and serves no
// socket. Package embed has a Runner for that, with providers and stores of the program's own; an agent that only other programs
// ask may have one as well. There is no global state, so a program may have several.
//
// The life cycle: New starts one goroutine, the clock, which renews profiles in use ahead of time. Each job under way is
// another. Stop, which CommandStop does as well, ends Serve and all watches; Token goes on to answer. Close ends the clock too,
// waits for jobs, leaves unsaved records on disk, and leaves no goroutine behind. If its context ends first, a job that has a
// rotated refresh token still finishes, and the program should live until it has. Nothing may be asked after Close.
//
// All methods may be called concurrently.
package agent

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/server"
	"github.com/ccagent/ccagent/protocol"
)

// Runner runs one job to its end.
type Runner interface {
	// Run does j and returns the worker's last report; an error means that there was none. A record that a provider has just
	// rotated is passed to handOver as soon as it is known, before it is saved. Run does not stop on its own when ctx ends
	// once a refresh token may have been sent.
	Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error)
}

// Options is what an agent is made of. Neither Load nor Rest may wait for the agent.
type Options struct {
	Load       func() (Config, error) // reads the configuration; called by New and at each reload, once at a time; required
	ConfigFile string                 // its changes cause a reload; "": nothing does
	Runner     Runner                 // called concurrently; required
	Log        *slog.Logger           // nil: nothing is logged
	Build      string                 // version, compared with the worker's
	Socket     func() string          // where it can be asked, shown in status; nil: it has no socket
	// IdleTimeout ends the agent when nobody has asked for that long and memory has nothing that can't be loaded again; 0: never.
	IdleTimeout time.Duration
	// Rest is called each time the agent has had nothing to do for some seconds, so that memory can be returned to the system.
	// One goroutine calls it, and until it returns nothing is renewed ahead of time. It may be nil.
	Rest func()
	// Now is the wall clock, time.Now where nil. It is called concurrently.
	Now func() time.Time
}

// Agent is the agent. Use [New].
type Agent struct {
	opts    Options
	log     *slog.Logger
	now     func() time.Time
	started time.Time

	requests, renewals atomic.Uint64
	versions           atomic.Uint64 // the last number that a profile's version got
	lastActivity       atomic.Int64  // unix milliseconds of the last request, or end of a connection
	lastJobEnd         atomic.Int64  // unix milliseconds of the last job's end
	restedAt           int64         // the later of those two when Rest was last called; the clock alone uses it
	server             server.Server
	lockState          lockState
	notifier           notifier

	table atomic.Pointer[table] // replaced whole at a reload

	mu        sync.Mutex      // one reload at a time; guards what follows
	loaded    fileState       // of the config file as it was last read
	configErr *protocol.Error // why the last reload failed, nil: it did not

	wake     chan struct{} // wakes the clock
	stopping chan struct{}
	stopOnce sync.Once
	work     sync.WaitGroup
}

var _ protocol.Agent = (*Agent)(nil)

// New makes an agent and starts its clock. A configuration that can't be read is no failure: the agent tells whoever asks, and
// reads it again once it has changed.
func New(opts Options) *Agent {
	a := &Agent{opts: opts, log: opts.Log, now: opts.Now, wake: make(chan struct{}, 1), stopping: make(chan struct{})}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.server.Agent, a.server.Limits, a.server.Log = a, limits, a.log
	a.server.Cached, a.server.Ended = a.cachedReply, a.peerGone
	a.started = a.now()
	a.versions.Store(uint64(a.started.UnixNano())) // a number that no agent before this one has used
	a.noteActivity()
	a.table.Store(&table{})
	a.notifier.agent = a
	a.reload()
	a.work.Go(a.clock)
	return a
}

// Stop begins the end: Serve returns once it has answered what is under way. It may be called more than once.
func (a *Agent) Stop() { a.stopOnce.Do(func() { close(a.stopping) }) }

// spillTime is how long it may take to leave unsaved records on disk.
const spillTime = 5 * time.Second

// Close stops the agent, waits until ctx ends for what is under way, and leaves every unsaved record where the next load finds
// it, for which it takes some seconds more. Its error (ErrStorage) names the profiles whose records could not be left.
func (a *Agent) Close(ctx context.Context) error {
	a.Stop()
	done := make(chan struct{})
	go func() { a.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		a.log.Warn("stopping while workers are busy: they finish on their own")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spillTime) // ctx may have ended
	defer cancel()
	var failed []string
	for _, e := range a.table.Load().byName {
		if err := e.spill(ctx); err != nil {
			failed = append(failed, e.name())
			a.log.Error("an unsaved record could not be left for the next agent", "profile", e.name(), "error", err)
		}
	}
	if failed != nil {
		return &protocol.Error{Code: protocol.CodeStorage, Message: "unsaved records are lost: " + strings.Join(failed, ", ")}
	}
	return nil
}

func (a *Agent) noteActivity() { a.lastActivity.Store(a.now().UnixMilli()) }

func (a *Agent) wakeClock() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Token implements [protocol.Agent].
func (a *Agent) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	a.requests.Add(1)
	a.noteActivity()
	if err := a.lockedError(); err != nil {
		return protocol.Token{}, err
	}
	if req.ForHost() {
		a.reloadIfChanged() // a change of the list of hosts counts at once
	}
	name, err := a.table.Load().byHost(&req)
	if err != nil {
		return protocol.Token{}, err
	}
	e, err := a.entryToServe(ctx, name, req.Home)
	if err != nil {
		return protocol.Token{}, err
	}
	if err := e.checkHost(&req); err != nil {
		return protocol.Token{}, err
	}
	e.lastUsed.Store(a.now().Unix())
	if req.Derived.Wanted() {
		if req.Derived, err = req.Derived.Normal(); err != nil {
			return protocol.Token{}, err
		}
		t, err := e.derivedToken(ctx, req)
		if err = cmp.Or(err, a.lockedError()); err != nil { // it may have been locked meanwhile
			return protocol.Token{}, err
		}
		return t, nil
	}
	var t protocol.Token
	if req.ReaskWindow > 0 {
		t, err = e.reasked(ctx, req)
	} else {
		var cached *cachedToken
		if cached, err = e.token(ctx, req); err == nil {
			t, err = cached.token()
		}
	}
	if err == nil {
		err = a.lockedError() // the agent may have been locked meanwhile
	}
	if err != nil {
		return protocol.Token{}, err
	}
	if cached := e.cached.Load(); t.Notice == "" && cached != nil && cached.expiry.Equal(t.Expiry) {
		t.Notice = cached.shortLifeNotice(e.name(), req.MinTTL, a.now())
		if t.Notice == "" && !req.Quiet {
			t.Notice = e.reminder(cached, a.now())
		}
	}
	return t, nil
}

// Put implements [protocol.Agent].
func (a *Agent) Put(ctx context.Context, req protocol.PutRequest) (protocol.PutReply, error) {
	a.noteActivity()
	a.reloadIfChanged()
	e, err := a.entry(req.Profile, req.Home)
	if err != nil {
		return protocol.PutReply{}, err
	}
	r, err := e.exclusive(ctx, job.Job{Op: job.Put, Record: req.Record, Force: req.Force || req.SignIn, SignIn: req.SignIn})
	if err != nil {
		return protocol.PutReply{}, err
	}
	if r.Location == "" { // handed over, and then the worker was gone
		r.Notice = "it is kept in the agent's memory until it is saved"
	}
	return protocol.PutReply{Location: r.Location, Notice: r.Notice}, nil
}

// asError gives err a code for the wire.
func asError(err error) *protocol.Error {
	return &protocol.Error{
		Code:    protocol.CodeOf(err),
		Message: err.Error(),
		Hint:    protocol.HintOf(err),
		Detail:  protocol.DetailOf(err),
	}
}

// withoutDetail returns err in the form that is remembered. The detail is only for those who wait for the job now.
func withoutDetail(err *protocol.Error) *protocol.Error {
	kept := *err
	kept.Detail = ""
	return &kept
}
