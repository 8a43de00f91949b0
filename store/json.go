package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Files that others share are changed by replacing the bytes of single values, never by decoding and encoding the whole:
// unknown keys, number formats, order, white space and escapes all stay as they were. encoding/json finds where the values
// are; nothing here knows what they mean.

// member is a key to be set, with its value in JSON.
type member struct {
	key   string
	value []byte
}

// span is where one member of an object lies in its source: key from its opening quote, value without white space around.
type span struct {
	key                 string
	start, value, after int
}

// scan returns the members of the one object that src must be, in order, repeated keys included.
func scan(src []byte) ([]span, error) {
	if !json.Valid(src) {
		var dummy json.RawMessage
		err := json.Unmarshal(src, &dummy)
		if err == nil {
			err = errors.New("not valid JSON")
		}
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotObject
	}
	var spans []span
	for dec.More() {
		before := int(dec.InputOffset())
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		s := span{start: before + bytes.IndexByte(src[before:], '"')}
		s.key, _ = t.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		s.after = int(dec.InputOffset())
		s.value = s.after - len(raw)
		spans = append(spans, s)
	}
	return spans, nil
}

var errNotObject = errors.New("not a JSON object")

// find returns the last member of that key, the one that JSON.parse and encoding/json believe.
func find(spans []span, key string) (span, bool) {
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].key == key {
			return spans[i], true
		}
	}
	return span{}, false
}

// setMembers returns src with the members set. A repeated key is set everywhere, so that no reader finds an old value; one
// that is absent is added at the end. A value that is there already keeps its bytes.
func setMembers(src []byte, members []member) ([]byte, error) {
	out := bytes.Clone(src)
	for _, m := range members {
		spans, err := scan(out)
		if err != nil {
			return nil, err
		}
		found := false
		for i := len(spans) - 1; i >= 0; i-- { // from the end, so that the offsets before stay true
			if s := spans[i]; s.key == m.key {
				found = true
				out = replace(out, s.value, s.after, m.value)
			}
		}
		if found {
			continue
		}
		added := append(append(encode(m.key), ':'), m.value...)
		at := bytes.IndexByte(out, '{') + 1
		if len(spans) > 0 {
			at = spans[len(spans)-1].after
			added = append([]byte{','}, added...)
		}
		out = replace(out, at, at, added)
	}
	return out, nil
}

// removeMembers returns src without any member of that key, and how many members are left.
func removeMembers(src []byte, key string) ([]byte, int, error) {
	out := bytes.Clone(src)
	for {
		spans, err := scan(out)
		if err != nil {
			return nil, 0, err
		}
		i := len(spans) - 1
		for i >= 0 && spans[i].key != key {
			i--
		}
		switch {
		case i < 0:
			return out, len(spans), nil
		case i > 0: // with the comma before it
			out = replace(out, spans[i-1].after, spans[i].after, nil)
		case len(spans) > 1: // the first: with the comma after it
			out = replace(out, spans[0].start, spans[1].start, nil)
		default:
			out = replace(out, spans[0].start, spans[0].after, nil)
		}
	}
}

func replace(src []byte, from, to int, with []byte) []byte {
	out := make([]byte, 0, len(src)-(to-from)+len(with))
	return append(append(append(out, src[:from]...), with...), src[to:]...)
}

// encode returns v in JSON without the escapes that are for HTML. Only strings, numbers, and lists and maps of them come here.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func encodeMillis(t time.Time) []byte {
	if t.IsZero() {
		return []byte("null")
	}
	return strconv.AppendInt(nil, t.UnixMilli(), 10)
}

// object reads the values of one JSON object by exact key (encoding/json's structs match keys whatever their case). It keeps
// the first error, which names the object and the key and never a value.
type object struct {
	name   string
	src    []byte
	values map[string]json.RawMessage
	err    error
}

// readObject reads src as one JSON object. name begins every error.
func readObject(name string, src []byte) (*object, error) {
	spans, err := scan(src)
	if err != nil {
		// The error of encoding/json quotes the character it stumbled over, which may be of a token: only its place is shown.
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			return nil, invalid(name, "is not valid JSON (from byte "+strconv.FormatInt(syntax.Offset, 10)+")")
		case errors.Is(err, errNotObject):
			return nil, invalid(name, "is not a JSON object")
		}
		return nil, invalid(name, "is not valid JSON")
	}
	o := &object{name: name, src: src, values: make(map[string]json.RawMessage, len(spans))}
	for _, s := range spans {
		o.values[s.key] = src[s.value:s.after]
	}
	return o, nil
}

// has reports whether the key is there and not null.
func (o *object) has(key string) bool {
	v, ok := o.values[key]
	return ok && string(v) != "null"
}

func (o *object) fail(key, want string) {
	if o.err == nil {
		o.err = invalid(o.name, `has a "`+key+`" that is not `+want)
	}
}

// text reads a string; absent and null leave it alone.
func (o *object) text(key string, to *string) {
	if o.has(key) && (o.values[key][0] != '"' || json.Unmarshal(o.values[key], to) != nil) {
		o.fail(key, "a string")
	}
}

func (o *object) secret(key string, to *protocol.Secret) {
	var s string
	o.text(key, &s)
	if !printable(s) {
		o.fail(key, "one line of printable text")
	}
	*to = protocol.NewSecret(s)
}

// token reads an access token: what no helper could print is no token.
func (o *object) token(key string, to *protocol.Secret) {
	o.secret(key, to)
	if !to.Empty() && protocol.CheckToken(*to) != nil {
		o.fail(key, "one word of printable ASCII, of 16384 characters at most")
	}
}

func (o *object) texts(key string, to *[]string) {
	if !o.has(key) {
		return
	}
	var list []*string
	if json.Unmarshal(o.values[key], &list) != nil {
		o.fail(key, "a list of strings")
		return
	}
	for _, s := range list {
		if s == nil {
			o.fail(key, "a list of strings")
			return
		}
		*to = append(*to, *s)
	}
}

// lastMillis is the last millisecond of the year 9999, the end of RFC 3339.
const lastMillis = 253402300799999

// millis reads an integer, written in any way that JSON has for one; ok is false when it is absent or null.
func (o *object) millis(key string) (ms int64, ok bool, err error) {
	if !o.has(key) {
		return 0, false, nil
	}
	f, err := strconv.ParseFloat(string(o.values[key]), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > lastMillis {
		o.fail(key, "a whole number of milliseconds up to the year 9999")
		return 0, false, o.err
	}
	return int64(f), true, nil
}

// moment reads a time in milliseconds; absent and null are the zero time. What lies before 1970 is as due as 1970.
func (o *object) moment(key string, to *time.Time) {
	if ms, ok, _ := o.millis(key); ok {
		*to = time.UnixMilli(max(ms, 0))
	}
}

func invalid(name, what string) error {
	return &protocol.Error{
		Code:    protocol.CodeInvalid,
		Message: name + " " + what,
		Hint:    "nothing was changed; mend it, or move it away and sign in again",
	}
}

// seconds reads an integer number of seconds since 1970; what lies before is as due as 1970.
func (o *object) seconds(key string) (s int64, ok bool) {
	if !o.has(key) {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(o.values[key]), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > lastMillis/1000 {
		o.fail(key, "a whole number of seconds up to the year 9999")
		return 0, false
	}
	return max(int64(f), 0), true
}
