package store

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// member is a key to be set, with its value in JSON.
type member struct {
	key   string
	value []byte
}

// setMembers returns src with the members set; see [splice.Set].
func setMembers(src []byte, members []member) ([]byte, error) {
	var err error
	for _, m := range members {
		if src, err = splice.Set(src, m.value, m.key); err != nil {
			return nil, err
		}
	}
	return src, nil
}

func encodeMillis(t time.Time) []byte {
	if t.IsZero() {
		return []byte("null")
	}
	return strconv.AppendInt(nil, t.UnixMilli(), 10)
}

// object reads the values of one JSON object. It compares keys exactly, while the structs of encoding/json ignore their case. err
// is the first error of its methods. It names the object and the key and never a value.
type object struct {
	name   string
	src    []byte
	values map[string]json.RawMessage
	err    error
}

// readObject reads src, which must be one JSON object. name begins every error (ErrInvalid).
func readObject(name string, src []byte) (*object, error) {
	if marked := lookalike.Marked(src); marked != "" {
		return nil, &protocol.Error{Code: protocol.CodeInvalid, Message: name + " " + marked, Hint: lookalike.Unmark}
	}
	spans, err := splice.Scan(src)
	if err != nil {
		// The error of encoding/json quotes a character, which may be part of a token. So only its place is told.
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			return nil, invalid(name, "is not valid JSON (from byte "+strconv.FormatInt(syntax.Offset, 10)+")")
		case errors.Is(err, splice.ErrNotObject):
			return nil, invalid(name, "is not a JSON object")
		}
		return nil, invalid(name, "is not valid JSON")
	}
	o := &object{name: name, src: src, values: make(map[string]json.RawMessage, len(spans))}
	for _, s := range spans {
		o.values[s.Key] = src[s.Value:s.After]
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

// text reads a string. If the key is missing or null, it changes nothing.
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

// token reads an access token, which must be one that the helper can print.
func (o *object) token(key string, to *protocol.Secret) {
	o.secret(key, to)
	if !to.Empty() && !protocol.IsToken(to.Reveal()) {
		o.fail(key, tokenForm(to.Reveal()))
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

// millis reads a whole number of milliseconds, in any notation of JSON. ok is false if the key is missing or null.
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

// moment reads a time in milliseconds since 1970. If the key is missing or null, it changes nothing. A time before 1970 becomes
// 1970, because all of them are past.
func (o *object) moment(key string, to *time.Time) {
	if ms, ok, _ := o.millis(key); ok {
		*to = time.UnixMilli(max(ms, 0))
	}
}

// seconds reads a time in whole seconds since 1970. A time before 1970 becomes 1970.
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
