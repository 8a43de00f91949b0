package protocol

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
	"unsafe"
)

// The fields of a frame are those of RFC 4251 §5 (byte, boolean, uint32, uint64, string), and those that docs/protocol.md §3.2
// makes of them: uint16, time, duration, list and struct.

// Times and durations on the wire, in milliseconds (§3.2).
const (
	NoTime  = math.MaxInt64              // never, or no time is known
	MaxTime = 253402300799999            // the last millisecond of the year 9999
	maxSpan = math.MaxInt64 / int64(1e6) // the longest duration
)

// Encoder appends frames to a slice. Its methods never fail, but for [Encoder.Close], which checks the size.
type Encoder struct {
	b     []byte
	start int
}

// NewFrame starts a frame at the end of dst.
func NewFrame(dst []byte, op Op) Encoder {
	start := len(dst)
	return Encoder{append(dst, 0, 0, 0, 0, Version, byte(op)), start}
}

// Close fills in the frame's length and returns dst with the frame appended. If the payload is larger than limit, it returns dst
// as it was, and ErrFrame.
func (e *Encoder) Close(limit int) ([]byte, error) {
	size := len(e.b) - e.start - headerSize
	if size > limit {
		return e.b[:e.start], ErrFrame
	}
	binary.BigEndian.PutUint32(e.b[e.start:], uint32(size))
	return e.b, nil
}

// Byte appends a byte.
func (e *Encoder) Byte(v byte) { e.b = append(e.b, v) }

// Uint16 appends an integer of two bytes.
func (e *Encoder) Uint16(v uint16) { e.b = binary.BigEndian.AppendUint16(e.b, v) }

// Uint32 appends an integer of four bytes.
func (e *Encoder) Uint32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }

// Uint64 appends an integer of eight bytes.
func (e *Encoder) Uint64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }

// Bool appends a boolean.
func (e *Encoder) Bool(v bool) {
	if v {
		e.Byte(1)
	} else {
		e.Byte(0)
	}
}

// String appends a string.
func (e *Encoder) String(v string) {
	e.Uint32(uint32(len(v)))
	e.b = append(e.b, v...)
}

// Bytes appends a string that is given as bytes.
func (e *Encoder) Bytes(v []byte) {
	e.Uint32(uint32(len(v)))
	e.b = append(e.b, v...)
}

// Time appends t to the millisecond. A t before 1970 or after 9999 is sent as the nearest end of that range, the zero t as
// [NoTime].
func (e *Encoder) Time(t time.Time) {
	if t.IsZero() {
		e.Uint64(NoTime)
		return
	}
	e.Uint64(uint64(min(max(t.UnixMilli(), 0), MaxTime)))
}

// Duration appends d in milliseconds, rounded up, so that what must last for d lasts no less. A negative d is sent as 0.
func (e *Encoder) Duration(d time.Duration) {
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	e.Uint64(uint64(min(max(ms, 0), maxSpan)))
}

// Strings appends a list of strings.
func (e *Encoder) Strings(v []string) {
	e.Uint32(uint32(len(v)))
	for _, s := range v {
		e.String(s)
	}
}

// Open starts a struct: fields within a string, to which later versions can append others. [Encoder.Shut] ends it and takes what
// Open returned.
func (e *Encoder) Open() (mark int) {
	e.Uint32(0)
	return len(e.b)
}

// Shut ends the struct that began at mark.
func (e *Encoder) Shut(mark int) {
	binary.BigEndian.PutUint32(e.b[mark-4:], uint32(len(e.b)-mark))
}

// Decoder reads fields. Once a field can't be read, every method returns a zero value, and [Decoder.Err] returns ErrMalformed, so
// that one check at the end is enough. A Decoder never allocates more than the input has bytes for.
type Decoder struct {
	b   []byte
	err error
}

// NewDecoder reads the fields in b.
func NewDecoder(b []byte) Decoder { return Decoder{b: b} }

// Err returns ErrMalformed if any field so far could not be read. Bytes that are left are no error: they are fields of a newer
// sender (§3.3).
func (d *Decoder) Err() error { return d.err }

// More reports whether bytes are left. It is false at an optional field that an older sender does not know (§3.3).
func (d *Decoder) More() bool { return d.err == nil && len(d.b) > 0 }

// Fail makes d fail as if the last field could not be read, for a caller that finds its value impossible.
func (d *Decoder) Fail() { d.err, d.b = ErrMalformed, nil }

// take returns the next n bytes, nil if there are fewer.
func (d *Decoder) take(n int) []byte {
	if n > len(d.b) {
		d.Fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// Byte reads a byte.
func (d *Decoder) Byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

// Bool reads a boolean; everything but 0 is true (RFC 4251 §5).
func (d *Decoder) Bool() bool { return d.Byte() != 0 }

// Uint16 reads an integer of two bytes.
func (d *Decoder) Uint16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

// Uint32 reads an integer of four bytes.
func (d *Decoder) Uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// Uint64 reads an integer of eight bytes.
func (d *Decoder) Uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// Bytes reads a string and returns it without a copy: it aliases the input.
func (d *Decoder) Bytes() []byte {
	n := d.Uint32()
	if uint64(n) > uint64(len(d.b)) {
		d.Fail()
		return nil
	}
	return d.take(int(n))
}

// String reads a string and copies it.
func (d *Decoder) String() string { return string(d.Bytes()) }

// alias reads a string without a copy. It is valid as long as the input is not changed.
func (d *Decoder) alias() string {
	b := d.Bytes()
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Time reads a time; a value outside the range of §3.2 is malformed.
func (d *Decoder) Time() time.Time {
	ms := d.Uint64()
	switch {
	case d.err != nil || ms == NoTime:
		return time.Time{}
	case ms > MaxTime:
		d.Fail()
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// Duration reads a duration; one that is too long for a time.Duration is malformed.
func (d *Decoder) Duration() time.Duration {
	ms := d.Uint64()
	if ms > uint64(maxSpan) {
		d.Fail()
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// Strings reads a list of strings. It returns nil for an empty one.
func (d *Decoder) Strings() []string {
	n := d.Count()
	if n == 0 {
		return nil
	}
	v := make([]string, 0, n)
	for range n {
		v = append(v, d.String())
	}
	if d.err != nil {
		return nil
	}
	return v
}

// Count reads the number of elements of a list of strings. A count for which the input has too few bytes is malformed, so that
// nobody allocates memory for it.
func (d *Decoder) Count() int {
	n := d.Uint32()
	if uint64(n)*4 > uint64(len(d.b)) {
		d.Fail()
		return 0
	}
	return int(n)
}

// Struct returns a Decoder for the fields of a struct.
func (d *Decoder) Struct() Decoder {
	return Decoder{b: d.Bytes(), err: d.err}
}

// oneLine returns s cut to limit bytes, with blanks for control characters and broken UTF-8, so that text from elsewhere has no
// effect on a terminal.
func oneLine(s string, limit int) string { return clean(s, limit, false) }

// lines is oneLine for text that may have several lines.
func lines(s string, limit int) string { return clean(s, limit, true) }

func clean(s string, limit int, newline bool) string {
	bad := func(r rune) bool {
		return r < ' ' && !(newline && r == '\n') || r >= 0x7f && r < 0xa0 || r == '\uFFFD' ||
			r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
	}
	if strings.IndexFunc(s, bad) >= 0 {
		s = strings.Map(func(r rune) rune {
			if bad(r) {
				return ' '
			}
			return r
		}, s)
	}
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xc0 == 0x80 { // not within a character
		limit--
	}
	return s[:limit]
}
