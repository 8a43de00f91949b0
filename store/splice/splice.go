// Package splice changes single values of a JSON document by replacing their bytes. It never decodes and encodes the whole, so
// unknown keys, formats of numbers, order, white space and escapes stay as they were. It is for files that are shared with other
// programs and with people.
//
// A key may be repeated in JSON. JSON.parse and encoding/json use the last one. Errors are those of encoding/json, or
// [ErrNotObject]. They may quote a character of the source. No function changes the bytes that it is given.
package splice

import (
	"bytes"
	"encoding/json"
	"errors"
)

// ErrNotObject says that a value is not a JSON object.
var ErrNotObject = errors.New("not a JSON object")

// Span is where one member of an object is in its source. The key's opening quote is at Start, and the value goes from Value to
// After, without white space around it. All three are offsets in bytes.
type Span struct {
	Key                 string
	Start, Value, After int
}

// Scan returns the members of src, which must be one object, in their order and with repeated keys.
func Scan(src []byte) ([]Span, error) {
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
		return nil, ErrNotObject
	}
	var spans []Span
	for dec.More() {
		before := int(dec.InputOffset())
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		s := Span{Start: before + bytes.IndexByte(src[before:], '"')}
		s.Key, _ = t.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		s.After = int(dec.InputOffset())
		s.Value = s.After - len(raw)
		spans = append(spans, s)
	}
	return spans, nil
}

// Find returns the last member of that key.
func Find(spans []Span, key string) (Span, bool) {
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].Key == key {
			return spans[i], true
		}
	}
	return Span{}, false
}

// Get returns the value at the path, a key for each level, and whether there is one.
func Get(src []byte, path ...string) ([]byte, bool, error) {
	for _, key := range path {
		spans, err := Scan(src)
		if err != nil {
			return nil, false, err
		}
		s, ok := Find(spans, key)
		if !ok {
			return nil, false, nil
		}
		src = src[s.Value:s.After]
	}
	return src, true, nil
}

// Set returns src with the value, in JSON, at the path. A repeated key is set everywhere, so that no reader finds an old value. A
// key that is missing is added at the end of its object, on a line of its own if the others have one.
func Set(src, value []byte, path ...string) ([]byte, error) {
	spans, err := Scan(src)
	if err != nil {
		return nil, err
	}
	key, deeper := path[0], path[1:]
	if len(deeper) > 0 {
		inner := []byte("{}")
		if s, ok := Find(spans, key); ok {
			inner = src[s.Value:s.After]
		}
		if value, err = Set(inner, value, deeper...); err != nil {
			return nil, err
		}
	}
	out, found := bytes.Clone(src), false
	for i := len(spans) - 1; i >= 0; i-- { // from the end, so that the offsets before it stay right
		if s := spans[i]; s.Key == key {
			found = true
			out = Replace(out, s.Value, s.After, value)
		}
	}
	if found {
		return out, nil
	}
	added := append(append(Encode(key), ':'), value...)
	at := bytes.IndexByte(out, '{') + 1
	if n := len(spans); n > 0 {
		last := spans[n-1]
		at = last.After
		before := out[:last.Start]
		line := before[bytes.LastIndexByte(before, '\n')+1:]
		if len(line) < len(before) && len(bytes.TrimLeft(line, " \t")) == 0 { // the last has a line of its own
			comma := ",\n"
			if bytes.HasSuffix(before[:len(before)-len(line)], []byte("\r\n")) {
				comma = ",\r\n"
			}
			added = append(append([]byte(comma), line...), append(append(Encode(key), ": "...), value...)...)
		} else {
			added = append([]byte{','}, added...)
		}
	}
	return Replace(out, at, at, added), nil
}

// Remove returns src without any member of that key, with the white space before it, and how many members are left.
func Remove(src []byte, key string) ([]byte, int, error) {
	out := bytes.Clone(src)
	for {
		spans, err := Scan(out)
		if err != nil {
			return nil, 0, err
		}
		i := len(spans) - 1
		for i >= 0 && spans[i].Key != key {
			i--
		}
		switch {
		case i < 0:
			return out, len(spans), nil
		case i > 0: // with the comma before it
			out = Replace(out, spans[i-1].After, spans[i].After, nil)
		case len(spans) > 1: // the first: with the comma after it
			out = Replace(out, spans[0].Start, spans[1].Start, nil)
		default:
			out = Replace(out, spans[0].Start, spans[0].After, nil)
		}
	}
}

// Drop returns src without what is at the path. Objects that are empty after that are removed as well.
func Drop(src []byte, path ...string) ([]byte, error) {
	if len(path) == 1 {
		out, _, err := Remove(src, path[0])
		return out, err
	}
	inner, ok, err := Get(src, path[0])
	if err != nil || !ok {
		return src, err
	}
	if inner, err = Drop(inner, path[1:]...); err != nil {
		return nil, err
	}
	if left, err := Scan(inner); err == nil && len(left) == 0 {
		return Drop(src, path[0])
	}
	return Set(src, inner, path[0])
}

// Replace returns src with another text from one offset to another.
func Replace(src []byte, from, to int, with []byte) []byte {
	out := make([]byte, 0, len(src)-(to-from)+len(with))
	return append(append(append(out, src[:from]...), with...), src[to:]...)
}

// Encode returns v in JSON, without the escapes that are for HTML. v is a string, a number, a boolean, or a list, map or struct
// of these.
func Encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
