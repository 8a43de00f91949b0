package server

import (
	"sync"
	"time"
)

// places are the open connections, and what of the limits they take. The zero value is ready.
type places struct {
	mu       sync.Mutex
	open     map[*conn]struct{}
	ordinary int            // connections in ordinary places
	ofUser   map[uint32]int // the same for each user
}

func (p *places) count() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint32(len(p.open))
}

// add gives c a place: an ordinary one, one that an idle connection has to give up, or else a reserved one. It reports false
// where there is none.
func (p *places) add(c *conn, limits Limits) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open, p.ofUser = map[*conn]struct{}{}, map[uint32]int{}
	}
	var last *conn
	switch {
	case limits.User > 0 && p.ofUser[c.peer.UID] >= limits.User:
		last = p.longestIdleLocked(func(o *conn) bool { return !o.reserved && o.peer.UID == c.peer.UID })
	case p.ordinary >= limits.Connections:
		last = p.longestIdleLocked(func(o *conn) bool { return !o.reserved })
	default:
		p.insertLocked(c)
		return true
	}
	if last == nil {
		c.reserved = true
		if len(p.open)-p.ordinary < limits.Reserved {
			p.insertLocked(c)
			return true
		}
		if last = p.longestIdleLocked(func(o *conn) bool { return o.reserved }); last == nil {
			return false
		}
	}
	last.end()
	p.deleteLocked(last)
	p.insertLocked(c)
	return true
}

func (p *places) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deleteLocked(c)
}

func (p *places) insertLocked(c *conn) {
	p.open[c] = struct{}{}
	if !c.reserved {
		p.ordinary++
		p.ofUser[c.peer.UID]++
	}
}

// deleteLocked gives the place of c back. A connection that had to give its place up has none any more.
func (p *places) deleteLocked(c *conn) {
	if _, open := p.open[c]; !open {
		return
	}
	delete(p.open, c)
	if c.reserved {
		return
	}
	p.ordinary--
	if p.ofUser[c.peer.UID]--; p.ofUser[c.peer.UID] == 0 {
		delete(p.ofUser, c.peer.UID)
	}
}

// longestIdleLocked returns the connection, of those that may give way, whose last request is oldest: nil where each has a
// request that would be lost.
func (p *places) longestIdleLocked(may func(*conn) bool) *conn {
	var longest *conn
	var since time.Time
	for c := range p.open {
		if !may(c) {
			continue
		}
		if last, idle := c.idleSince(); idle && (longest == nil || last.Before(since)) {
			longest, since = c, last
		}
	}
	return longest
}

// closeIdle ends every connection, those with a request under way after its answer.
func (p *places) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.endWhenIdle()
	}
}
