// Package scrub takes secrets out of what a server answers, so that a server that repeats a request does not tell its sender what
// the gateway has put into it.
//
// A secret is found as it is, in base64 (with both alphabets, wherever in the encoded text it begins), and with any of its
// bytes written as in a URL (%2F) or as in a JSON string (\u002f, \/). Each byte of such an occurrence is replaced by an "x". So
// nothing else moves, and a stated length stays true. A part of a secret is not looked for, nor an encoding within an encoding.
package scrub

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strings"
)

// MinLength is how many bytes a secret has at least. A shorter one would be found by accident, and is left alone.
const MinLength = 8

// passed is how many bytes of what may become an occurrence are passed on at once. Were they kept back, then a stream whose chunk
// ends like a secret begins would be late. They tell nothing: such is how all tokens of a vendor begin.
const passed = 3

// replacement is what each byte of an occurrence becomes. It may stand in base64, in a URL and in a JSON string.
const replacement = 'x'

// Scrubber finds a set of secrets. It does not change, and may be used concurrently.
type Scrubber struct {
	nodes  []node       // the automaton of all forms
	first  []int        // where an occurrence begins
	begins [256]bool    // with which bytes it does
	grams  [4096]uint64 // which four bytes are in a form that has no escapes: a bitmap by their hash
	stride int          // of so many places in a row, one is looked up in grams; 0 if the secrets are too short for that
	escape [256]bool    // which bytes of a secret or of its base64 can be escaped
}

// node is a state of the automaton: what may come next, after what has come.
type node struct {
	edges []edge
	final bool // an occurrence is complete
}

type edge struct {
	on   byte
	next int
}

// New returns a Scrubber for these secrets. Those with fewer than [MinLength] bytes are not looked for.
func New(secrets ...string) *Scrubber {
	s := &Scrubber{}
	shortest := 1 << 30
	for _, secret := range secrets {
		if len(secret) < MinLength {
			continue
		}
		for _, form := range formsOf(secret) {
			s.add(form)
			shortest = min(shortest, len(form))
		}
	}
	for _, start := range s.first {
		for _, e := range s.nodes[start].edges {
			s.begins[e.on] = true
		}
	}
	if s.stride = min(16, shortest-3); s.stride < 4 {
		s.stride = 0
	}
	return s
}

// form is one way to write a secret: for each place the bytes that may stand there, each of which may also be escaped.
type form []string

func formsOf(secret string) []form {
	forms := []form{make(form, len(secret))}
	for i := range len(secret) {
		forms[0][i] = secret[i : i+1]
	}
	for before := range 3 { // bytes that share a group of base64 with the first of the secret
		text := base64.StdEncoding.EncodeToString(append(make([]byte, before), secret...))
		// Only what depends on nothing but the secret.
		text = text[(before*8+5)/6 : (before+len(secret))*8/6]
		var f form
		for i := range len(text) {
			switch text[i] {
			case '+':
				f = append(f, "+-")
			case '/':
				f = append(f, "/_")
			default:
				f = append(f, text[i:i+1])
			}
		}
		forms = append(forms, f)
	}
	return forms
}

// add adds a form to the automaton.
func (s *Scrubber) add(f form) {
	at := s.node()
	s.first = append(s.first, at)
	for _, choices := range f {
		next := s.node()
		for _, c := range []byte(choices) {
			s.escape[c] = true
			s.path(at, next, []string{string(c)})
			upper, lower := hex(c, "0123456789ABCDEF"), hex(c, "0123456789abcdef")
			s.path(at, next, []string{"%", upper[:1] + lower[:1], upper[1:] + lower[1:]})
			s.path(at, next, []string{"\\", "u", "0", "0", upper[:1] + lower[:1], upper[1:] + lower[1:]})
			if c == '/' {
				s.path(at, next, []string{"\\", "/"})
			}
		}
		at = next
	}
	s.nodes[at].final = true
	s.addGrams(f)
}

// path leads from one node to another by bytes of which each may be one of several.
func (s *Scrubber) path(from, to int, steps []string) {
	for i, choices := range steps {
		next := to
		if i < len(steps)-1 {
			next = s.node()
		}
		for j := range len(choices) {
			if j == 0 || choices[j] != choices[0] {
				s.nodes[from].edges = append(s.nodes[from].edges, edge{choices[j], next})
			}
		}
		from = next
	}
}

func (s *Scrubber) node() int {
	s.nodes = append(s.nodes, node{})
	return len(s.nodes) - 1
}

func hex(c byte, digits string) string { return string([]byte{digits[c>>4], digits[c&15]}) }

// addGrams notes each four bytes that follow one another in a form without escapes.
func (s *Scrubber) addGrams(f form) {
	for i := 0; i+4 <= len(f); i++ {
		grams := []string{""}
		for _, choices := range f[i : i+4] {
			var longer []string
			for _, g := range grams {
				for _, c := range []byte(choices) {
					longer = append(longer, g+string([]byte{c}))
				}
			}
			grams = longer
		}
		for _, g := range grams {
			h := hash(binary.LittleEndian.Uint32([]byte(g)))
			s.grams[h/64] |= 1 << (h % 64)
		}
	}
}

func hash(gram uint32) uint32 { return gram * 2654435761 >> 14 }

// String returns a text, such as the value of a header field, without the secrets.
func (s *Scrubber) String(text string) string {
	if len(text) < MinLength {
		return text
	}
	m := matcher{Scrubber: s}
	buf := []byte(text)
	if m.scan(buf); !m.found {
		return text
	}
	return string(buf)
}

// Reader returns a reader of r's bytes without the secrets. Nothing is kept back but the beginning of what may be an occurrence,
// until it is one, or is none, or r ends. It closes r where r can be closed, and writes to it where r can be written to, as the
// connection after a switch of protocols can.
func (s *Scrubber) Reader(r io.ReadCloser) io.ReadCloser {
	if len(s.first) == 0 {
		return r
	}
	clean := &reader{source: r, matcher: matcher{Scrubber: s}}
	if w, ok := r.(io.Writer); ok {
		return struct {
			*reader
			io.Writer
		}{clean, w}
	}
	return clean
}

// reader is a stream without the secrets. Only one goroutine may read from it.
type reader struct {
	source  io.ReadCloser
	matcher matcher
	held    []byte // read, looked at, and kept back
	ready   []byte // may be given out
	buf     []byte
	err     error
}

func (r *reader) Close() error { return r.source.Close() }

func (r *reader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if len(r.ready) > 0 {
			n := copy(p, r.ready)
			r.ready = r.ready[n:]
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		if n := r.fill(p); n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

// fill reads once, into p if nothing is held back, and returns how much of it may be given out already.
func (r *reader) fill(p []byte) int {
	if len(r.held) == 0 {
		n, err := r.source.Read(p)
		free := r.matcher.scan(p[:n])
		if r.err = err; err != nil {
			return n // what is held back can't become an occurrence any more
		}
		r.held = append(r.held[:0], p[free:n]...)
		return free
	}
	if len(r.buf) == 0 {
		r.buf = make([]byte, 4<<10)
	}
	n, err := r.source.Read(r.buf)
	r.held = append(r.held, r.buf[:n]...)
	free := r.matcher.again(r.held, n)
	if r.err = err; err != nil {
		free = len(r.held)
	}
	r.ready = append(r.ready[:0:0], r.held[:free]...)
	r.held = append(r.held[:0], r.held[free:]...)
	return 0
}

// matcher looks through one stream.
type matcher struct {
	*Scrubber
	threads, spare []thread
	at             int // how many bytes have been looked at
	found          bool
}

// thread is what may become an occurrence: where it began, and the state that it is in.
type thread struct{ node, start int }

// scan looks at the next bytes of the stream, and replaces in them what is part of an occurrence. It returns how many of them may
// be given out. The others begin what may become an occurrence, and scan's caller shows them again.
func (m *matcher) scan(chunk []byte) int { return m.again(chunk, len(chunk)) }

// again is scan for a chunk of which only the last fresh bytes have not been looked at.
func (m *matcher) again(chunk []byte, fresh int) int {
	base := m.at - (len(chunk) - fresh) // where in the stream the chunk begins
	slow := 0                           // so far each byte must be looked at
	for i := len(chunk) - fresh; i < len(chunk); i++ {
		if len(m.threads) == 0 && i >= slow {
			if i, slow = m.skip(chunk, i); i == len(chunk) {
				break
			}
		}
		if start, ok := m.step(chunk[i], base+i); ok {
			m.found = true
			for j := max(0, start-base); j <= i; j++ {
				chunk[j] = replacement
			}
		}
	}
	m.at = base + len(chunk)
	first := m.at
	for _, t := range m.threads {
		first = min(first, t.start)
	}
	if m.at-first <= passed {
		return len(chunk)
	}
	return max(0, first-base)
}

// step moves every thread by one byte of the stream. It reports where an occurrence began that is complete with it.
func (m *matcher) step(c byte, at int) (start int, complete bool) {
	moved := m.spare[:0]
	advance := func(node, began int) {
		for _, e := range m.nodes[node].edges {
			if e.on != c {
				continue
			}
			if m.nodes[e.next].final && (!complete || began < start) {
				start, complete = began, true
			}
			moved = append(moved, thread{e.next, began})
		}
	}
	for _, t := range m.threads {
		advance(t.node, t.start)
	}
	if m.begins[c] {
		for _, node := range m.first {
			advance(node, at)
		}
	}
	m.threads, m.spare = moved, m.threads
	return start, complete
}

// around is how far before a place that skip finds an occurrence may begin: no four bytes of it have been looked up yet, and none
// of its bytes is escaped.
func (s *Scrubber) around() int { return s.stride + 4 }

// skip returns from where, and how far, each byte must be looked at, as no occurrence can begin between from and there. An
// occurrence without escapes shows at every stride-th place, because its bytes there are known. One with escapes shows by them.
func (m *matcher) skip(chunk []byte, from int) (next, slow int) {
	if m.stride == 0 {
		return from, len(chunk)
	}
	limit := max(from, len(chunk)-m.around()) // from here on, too little is there to tell
	for i := from; i < limit; i += m.stride {
		h := hash(binary.LittleEndian.Uint32(chunk[i:]))
		if m.grams[h/64]&(1<<(h%64)) != 0 {
			limit = i
			break
		}
	}
	limit = m.escaped(chunk, from, limit)
	return max(from, limit-m.around()), limit
}

// escaped returns where, before an end, the first byte is escaped that may be one of a secret's, or that end.
func (m *matcher) escaped(chunk []byte, from, end int) int {
	for _, mark := range []byte{'%', '\\'} {
		for i := from; i < end; i++ {
			n := bytes.IndexByte(chunk[i:end], mark)
			if n < 0 {
				break
			}
			if i += n; m.isEscape(chunk[i:]) {
				end = i
			}
		}
	}
	return end
}

// isEscape reports whether a text of six bytes or more begins with an escaped byte of a secret.
func (m *matcher) isEscape(text []byte) bool {
	digits := text[1:]
	if text[0] == '\\' {
		if digits[0] == '/' {
			return true
		}
		if !bytes.HasPrefix(digits, []byte("u00")) {
			return false
		}
		digits = digits[3:]
	}
	const hexDigits = "0123456789abcdef0123456789ABCDEF"
	high, low := strings.IndexByte(hexDigits, digits[0]), strings.IndexByte(hexDigits, digits[1])
	return high >= 0 && low >= 0 && m.escape[(high&15)<<4|low&15]
}
