package agent

import (
	"errors"
	"os"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// A Go program that has worked keeps more memory than one that has just started, and has no means of giving it back: its collector's lists,
// spans in which a single object lives, the stacks of threads. So an agent at rest may put a new image of its program in its place by
// execve(2), as `systemctl daemon-reexec` does: process, socket and lock stay, and what the agent knows is handed to the new image.

// ErrBusy is what [Agent.Reexec] fails with while the agent must stay as it is.
var ErrBusy = errors.New("something is under way, or must not leave this process")

// Inheritance is what [Agent.Reexec] hands over.
type Inheritance struct {
	Listener *Listener // nil: nothing was handed over
	Log      *os.File  // nil: none was
	State    []byte    // for [Options.State]: holds tokens; not to be read after Forget
}

// replace calls by with the state for the next image, while everything is held still.
func (a *Agent) replace(l *Listener, by func(state []byte) error) error {
	// Only tried: what someone holds may be held for long, and nobody is to wait for us meanwhile.
	if !a.mu.TryLock() {
		return ErrBusy
	}
	defer a.mu.Unlock()
	if !a.locking.turn.TryLock() {
		return ErrBusy
	}
	defer a.locking.turn.Unlock()
	t := a.table.Load()
	if a.configErr != nil || len(t.config.LockOn) > 0 || a.locking.mustStay() {
		return ErrBusy
	}
	// Where the kernel does not let a thread go, it lets neither an execve nor a kill go on: everything would be held still without end.
	if a.looks.Load() > 0 {
		return ErrBusy
	}
	for _, e := range t.byName {
		if !e.mu.TryLock() {
			return ErrBusy
		}
		defer e.mu.Unlock()
		if e.mustStay() {
			return ErrBusy
		}
	}
	defer l.hold()()
	release := a.conns.hold()
	if release == nil {
		return ErrBusy
	}
	defer release()
	state, err := a.state()
	if err != nil {
		return err
	}
	return by(state)
}

// mustStay reports whether something of the profile is under way, or held and nowhere else. e.mu is held.
func (e *entry) mustStay() bool {
	return e.removed.Load() || e.flight != nil || e.asking != nil || e.told || e.saving != nil || e.showing != nil || !e.record.Empty()
}

// mustStay reports whether anything is locked or opened. l.turn is held, so that it stays like that.
func (l *locking) mustStay() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.on.Load() || l.fails > 0 || len(l.keys) > 0 || len(l.kept) > 0
}

// codec is one pass over the state, which either encodes or decodes it: each method does to its field the one or the other, as the filters of xdr(3)
// do, so that the two can't differ. Encoding changes nothing: others may be reading. The bytes never leave one build of the program.
type codec struct {
	out *protocol.Encoder
	in  *protocol.Decoder // nil when encoding
}

const (
	opState  protocol.Op = 1
	maxState             = 64 << 20
)

// state encodes what the next image is to know. The caller holds all that it reads still.
func (a *Agent) state() ([]byte, error) {
	out := protocol.NewFrame(nil, opState)
	s := codec{out: &out}
	t := a.table.Load()
	build, profiles := a.opts.Build, len(t.byName)
	s.text(&build)
	s.agent(a, &t.config)
	integer(&s, &profiles)
	for _, e := range t.byName {
		s.entry(e)
	}
	return out.Close(maxState)
}

// resume takes over what the image before this one knew. It reports false, and nothing has changed, where that can't be read or there is none.
func (a *Agent) resume(state []byte) bool {
	const header = 4
	if len(state) < header {
		return false
	}
	op, in, err := protocol.OpenFrame(state[header:])
	if err != nil || op != opState {
		return false
	}
	s := codec{in: &in}
	var build string
	var config Config
	var profiles int
	if s.text(&build); build != a.opts.Build {
		return false
	}
	was := &Agent{}
	s.agent(was, &config)
	if integer(&s, &profiles); in.Err() != nil || profiles < 0 || profiles > MaxProfiles {
		return false
	}
	t := &table{config: config, entries: make(map[string]*entry, profiles), byName: make([]*entry, 0, profiles)}
	for range profiles {
		e := &entry{agent: a}
		s.entry(e)
		t.entries[protocol.FoldProfile(e.name())] = e
		t.byName = append(t.byName, e)
	}
	if in.Err() != nil || in.More() {
		return false
	}
	a.loaded, a.started = was.loaded, was.started
	a.requests.Store(was.requests.Load())
	a.renewals.Store(was.renewals.Load())
	a.active.Store(was.active.Load())
	a.table.Store(t)
	t.altered()
	for _, e := range t.byName {
		a.files.follow(e.sight.Load().paths)
	}
	return true
}

func (s *codec) agent(a *Agent, c *Config) {
	s.stamp(&a.loaded)
	s.time(&a.started)
	counter(s, &a.requests)
	counter(s, &a.renewals)
	counter(s, &a.active)
	s.text(&c.Default)
	s.text(&c.Home.Home)
	s.text(&c.Home.XDGConfigHome)
	s.text(&c.Home.ClaudeConfigDir)
}

// entry passes over e, of which decoding finds nothing set but the agent.
func (s *codec) entry(e *entry) {
	s.profile(e)
	s.hand(e)
	s.sight(e)
	counter(s, &e.lastUsed)

	base := e.base[:]
	if s.bytes(&base); s.in != nil {
		copy(e.base[:], base)
	}
	s.name(&e.place.store)
	s.text(&e.place.location)
	s.name(&e.place.subscription)
	s.texts(&e.place.scopes)
	s.text(&e.note)
	s.failure(e)
	s.time(&e.lastRenewal)
	s.time(&e.renewAt)
	s.consumers(e)
}

func (s *codec) profile(e *entry) {
	p := e.profile.Load()
	if p == nil {
		p = &Profile{}
		e.profile.Store(p)
	}
	s.text(&p.Name)
	s.name(&p.Provider)
	s.name(&p.Store)
	s.texts(&p.Hosts)
	s.text(&p.ConfigDir)
	s.text(&p.Identity)
	s.flag(&p.Shown)
	s.bytes(&p.Settings)
}

func (s *codec) hand(e *entry) {
	h := e.hand.Load()
	if there := h != nil; !s.flag(&there) {
		return
	}
	if h == nil {
		h = &hand{}
		e.hand.Store(h)
	}
	s.time(&h.expiry)
	s.time(&h.issued)
	kind := string(h.kind)
	if s.name(&kind); s.in != nil {
		h.kind = protocol.Kind(kind)
	}
	s.flag(&h.notice)
	s.bytes(&h.reply)
}

func (s *codec) sight(e *entry) {
	v := e.sight.Load()
	if v == nil {
		v = &sight{}
	}
	s.texts(&v.paths)
	others, local := v.others, v.local
	s.flag(&others)
	s.flag(&local)
	stamps := v.stamps
	if s.in != nil {
		stamps = make([]stamp, len(v.paths))
	}
	for i := range stamps {
		s.stamp(&stamps[i])
	}
	if s.in != nil {
		e.sight.Store(newSight(seen{v.paths, stamps}, others, local))
	}
}

func (s *codec) stamp(st *stamp) {
	s.flag(&st.there)
	integer(s, &st.inode)
	integer(s, &st.size)
	integer(s, &st.mtime)
	integer(s, &st.ctime)
}

func (s *codec) failure(e *entry) {
	if there := e.failure != nil; !s.flag(&there) {
		return
	}
	if e.failure == nil {
		e.failure = &failure{err: &protocol.Error{}}
	}
	f := e.failure
	integer(s, &f.err.Code)
	integer(s, &f.retry.fails)
	s.text(&f.err.Message)
	s.text(&f.err.Hint)
	s.time(&f.at)
	s.time(&f.retry.at)
	s.flag(&f.local)
}

func (s *codec) consumers(e *entry) {
	s.time(&e.reaskedAt)
	n := len(e.given)
	integer(s, &n)
	if s.in == nil {
		for c, g := range e.given {
			s.consumer(&c, &g)
		}
		return
	}
	for range min(n, maxConsumers) {
		var c consumer
		var g given
		s.consumer(&c, &g)
		if e.given == nil {
			e.given = map[consumer]given{}
		}
		e.given[c] = g
	}
}

func (s *codec) consumer(c *consumer, g *given) {
	integer(s, &c.pid)
	integer(s, &c.start)
	s.time(&g.at)
	s.secret(&g.token)
}

func integer[T ~int | ~int32 | ~int64 | ~uint16 | ~uint64](s *codec, v *T) {
	if s.in != nil {
		*v = T(s.in.Uint64())
	} else {
		s.out.Uint64(uint64(*v))
	}
}

// counter is an integer that others read and write.
func counter[T int64 | uint64](s *codec, v interface {
	Load() T
	Store(T)
}) {
	n := v.Load()
	if integer(s, &n); s.in != nil {
		v.Store(n)
	}
}

// flag returns what v is now.
func (s *codec) flag(v *bool) bool {
	if s.in != nil {
		*v = s.in.Bool()
	} else {
		s.out.Bool(*v)
	}
	return *v
}

func (s *codec) text(v *string) {
	if s.in != nil {
		*v = s.in.String()
	} else {
		s.out.String(*v)
	}
}

// name is text of which many profiles have the same.
func (s *codec) name(v *string) {
	s.text(v)
	if s.in != nil {
		*v = shared(*v)
	}
}

func (s *codec) texts(v *[]string) {
	if s.in != nil {
		*v = s.in.Strings()
	} else {
		s.out.Strings(*v)
	}
}

func (s *codec) bytes(v *[]byte) {
	if s.in != nil {
		*v = append([]byte(nil), s.in.Bytes()...)
	} else {
		s.out.Bytes(*v)
	}
}

func (s *codec) secret(v *protocol.Secret) {
	text := v.Reveal()
	if s.text(&text); s.in != nil && text != "" {
		*v = protocol.NewSecret(text)
	}
}

// time is exact, unlike the protocol's; the monotonic clock's part stays behind.
func (s *codec) time(v *time.Time) {
	sec, nsec := v.Unix(), int64(v.Nanosecond())
	integer(s, &sec)
	if integer(s, &nsec); s.in != nil {
		*v = time.Unix(sec, nsec)
	}
}
