// Package agent holds a person's tokens in memory, renews them one at a time per profile before they run out, and serves them
// over a Unix socket.
//
// [New] makes an agent from [Options]. [Agent.Serve] answers on a socket (see package socket) until [Agent.Stop], and
// [Agent.Close] waits for what is under way. The agent touches neither a store nor the network: a [Runner] does one job at a time
// for it, in a process of its own ([Process]). A record is opaque here: a blob beside a token and an expiry.
//
// # Within a program
//
// An [Agent] implements [protocol.Agent] in-process too: a program that wants no second process calls [Agent.Token] and serves no
// socket. Package embed has a Runner for that, with providers and stores of the program's own; an agent that only other programs
// ask may have one as well. There is no global state, so a program may have several.
//
// The life cycle: New starts one goroutine, the clock, which renews profiles in use ahead of time; each job under way is another.
// Stop, which CommandStop does as well, ends Serve and whoever watches; Token goes on to answer. Close ends the clock too, waits
// for jobs, spills what is unsaved and leaves no goroutine behind, unless its context ended first: then a job that holds a
// rotated refresh token still finishes, and the program should live until it has. Nothing is to be asked after Close.
//
// All methods may be called concurrently.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
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
	ConfigFile string                 // looked at for changes; "" never
	Runner     Runner                 // called concurrently; required
	Log        *slog.Logger           // nil: nothing is logged
	Build      string                 // version, compared with the worker's
	Socket     string                 // shown in status
	// IdleTimeout ends the agent when nobody has asked for that long and it holds nothing that can't be loaded again; 0 never.
	IdleTimeout time.Duration
	// Rest is called each time the agent has had nothing to do for some seconds: the time to return memory to the system. It is
	// called by one goroutine, and until it returns nothing is renewed that nobody asks for. It may be nil.
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
	versions           atomic.Uint64 // the last that an entry got: see entry.altered
	lastActivity       atomic.Int64  // unix milliseconds of the last sign of life from outside
	lastJobEnd         atomic.Int64  // unix milliseconds of the last job's end
	restedAt           int64         // which of those two was last when Rest was called; the clock's own
	server             server.Server
	lockState          lockState
	notifier           notifier

	table atomic.Pointer[table] // replaced whole at a reload

	mu        sync.Mutex  // a reload, and what follows
	loaded    fingerprint // the config file as it was last read
	configErr *protocol.Error

	wake     chan struct{} // the clock looks again
	stopping chan struct{}
	stopOnce sync.Once
	work     sync.WaitGroup
}

// table is a configuration in force: entries by folded name.
type table struct {
	config  Config
	entries map[string]*entry
	byName  []*entry // sorted by name
}

var _ protocol.Agent = (*Agent)(nil)

// New makes an agent and starts its clock. A configuration that can't be read is no failure: the agent says so to whoever
// asks, and takes it up once it is mended.
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
	a.versions.Store(uint64(a.started.UnixNano())) // no other agent has counted from here
	a.noteActivity()
	a.table.Store(&table{})
	a.notifier.agent = a
	a.reload()
	a.work.Go(a.clock)
	return a
}

// Stop begins the end: Serve returns once it has answered what is under way. It may be called more than once.
func (a *Agent) Stop() { a.stopOnce.Do(func() { close(a.stopping) }) }

// spillTime is how long leaving what is unsaved may take.
const spillTime = 5 * time.Second

// Close stops the agent, waits until ctx ends for what is under way, and leaves every record that no store has where the
// next load finds it, for which it takes some seconds more. It returns an error when something could not be left.
func (a *Agent) Close(ctx context.Context) error {
	a.Stop()
	done := make(chan struct{})
	go func() { a.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		a.log.Warn("stopping while workers are busy: they finish on their own")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spillTime) // whatever the workers have left of it
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

// reload reads the configuration. What was in hand stays for every profile whose settings are as they were.
func (a *Agent) reload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loaded = fingerprintOf(a.opts.ConfigFile)
	config, err := a.opts.Load()
	if err != nil {
		a.configErr = asError(err)
		a.log.Error("configuration not taken, the settings stay as they were", "error", err)
		return err
	}
	a.configErr = nil
	old := a.table.Load()
	profiles := config.Profiles
	config.Profiles = nil // the entries have them
	next := &table{config: config, entries: make(map[string]*entry, len(profiles))}
	for _, p := range profiles {
		key := protocol.FoldProfile(p.Name)
		e := old.entries[key]
		if e == nil {
			e = &entry{agent: a}
			e.snapshot.Store(noFiles)
		}
		e.configure(&p)
		next.entries[key] = e
		next.byName = append(next.byName, e)
	}
	for key, e := range old.entries {
		if next.entries[key] != nil {
			continue
		}
		// What it holds is nowhere else, and a job under way may be about to bring it: it stays until that is saved or the agent
		// ends.
		e.removed.Store(true)
		if e.aloneHasRecord() || e.busy() {
			next.entries[key] = e
			next.byName = append(next.byName, e)
		}
	}
	slices.SortFunc(next.byName, func(x, y *entry) int { return strings.Compare(x.name(), y.name()) })
	a.table.Store(next)
	old.bumpVersions()
	next.bumpVersions()
	a.wakeClock()
	return nil
}

// reloadIfChanged reads the configuration again if the file is another one than was read.
func (a *Agent) reloadIfChanged() {
	if a.opts.ConfigFile == "" {
		return
	}
	a.mu.Lock()
	changed := fingerprintOf(a.opts.ConfigFile) != a.loaded
	a.mu.Unlock()
	if changed {
		a.reload()
	}
}

func (a *Agent) configError() *protocol.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.configErr
}

// find returns the entry that a request for name (as it came, "" for the default) means, nil when there is none.
func (t *table) find(name string) *entry {
	if name == "" {
		name = t.config.Default
	}
	if e := t.entries[name]; e != nil {
		return e
	}
	return t.entries[protocol.FoldProfile(name)]
}

// entry finds the profile a request means, looking at the config file for one it does not know.
func (a *Agent) entry(name string, home protocol.Home) (*entry, error) {
	if name != "" {
		if err := protocol.CheckProfile(name); err != nil {
			return nil, err
		}
	}
	t := a.table.Load()
	e := t.find(name)
	if e == nil {
		a.reloadIfChanged()
		t = a.table.Load()
		if e = t.find(name); e == nil {
			if err := a.configError(); err != nil {
				return nil, err
			}
			return nil, &protocol.Error{
				Code:    protocol.CodeNotFound,
				Message: fmt.Sprintf("there is no profile %q", name),
				Hint:    "see them with: ccagent list",
			}
		}
	}
	if err := t.checkHome(home, e); err != nil {
		return nil, err
	}
	return e, nil
}

// Token implements [protocol.Agent].
func (a *Agent) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	a.requests.Add(1)
	a.noteActivity()
	if err := a.lockedError(); err != nil {
		return protocol.Token{}, err
	}
	if req.ForHost() {
		a.reloadIfChanged() // whoever has just taken a host out of the list, or put one in, means it at once
	}
	e, err := a.entry(req.Profile, req.Home)
	if err != nil {
		return protocol.Token{}, err
	}
	if err := e.checkHost(&req); err != nil {
		return protocol.Token{}, err
	}
	e.lastUsed.Store(a.now().Unix())
	var t protocol.Token
	if req.ReaskWindow > 0 {
		t, err = e.reasked(ctx, req)
	} else {
		var h *cachedToken
		if h, err = e.token(ctx, req); err == nil {
			t, err = h.token()
		}
	}
	if err == nil {
		err = a.lockedError() // it was locked meanwhile
	}
	if err != nil {
		return protocol.Token{}, err
	}
	if h := e.cached.Load(); t.Notice == "" && h != nil && h.expiry.Equal(t.Expiry) {
		t.Notice = h.shortLifeNotice(e.name(), req.MinTTL, a.now())
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

// Status implements [protocol.Agent].
func (a *Agent) Status(_ context.Context, req protocol.StatusRequest) (protocol.Status, error) {
	a.noteActivity()
	a.reloadIfChanged()
	t := a.table.Load()
	s := protocol.Status{Agent: protocol.AgentStatus{
		PID: os.Getpid(), Version: a.opts.Build, Socket: a.opts.Socket, Started: a.started,
		Requests: a.requests.Load(), Renewals: a.renewals.Load(), Connections: a.server.Connections(), Memory: resident(),
		DefaultProfile: t.config.Default, Locked: a.lockState.on.Load(),
	}}
	if err := a.configError(); err != nil {
		s.Agent.ConfigError = err.Message
	}
	if req.Profile != "" {
		e, err := a.entry(req.Profile, req.Home)
		if err != nil {
			return protocol.Status{}, err
		}
		s.Profiles = append(s.Profiles, e.status())
		return s, nil
	}
	if err := t.checkHome(req.Home, nil); err != nil {
		return protocol.Status{}, err
	}
	// A page stays well inside a frame: what is printed of one profile is bounded (see statusSize).
	room := protocol.MaxFrame / 2
	for _, e := range t.byName {
		if e.name() <= req.After && req.After != "" {
			continue
		}
		p := e.status()
		if room -= statusSize(p); room < 0 && len(s.Profiles) > 0 {
			s.Next = s.Profiles[len(s.Profiles)-1].Name
			break
		}
		s.Profiles = append(s.Profiles, p)
	}
	return s, nil
}

func statusSize(p protocol.ProfileStatus) int {
	n := 256 + len(p.Name) + len(p.Location) + len(p.LastError) + len(p.Note) + len(p.Subscription)
	for _, s := range p.Scopes {
		n += 4 + len(s)
	}
	return n
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

// lasting is err as it is kept: without what is for those alone who wait for it now.
func withoutDetail(err *protocol.Error) *protocol.Error {
	kept := *err
	kept.Detail = ""
	return &kept
}
