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
	"slices"
)

// ErrNotObject says that a value is not a JSON object.
var ErrNotObject = errors.New("not a JSON object")

// Span is where one member of an object is in its source. The key's opening quote is at Start, and the value goes from Value to
// After, without white space around it. All three are offsets in bytes.
type Span struct {
	Key                 string
	Start, Value, After int
}

// Dialect is what a document may hold besides JSON.
type Dialect int

const (
	JSON      Dialect = iota // nothing else
	Commented                // comments
	JSONC                    // comments, and a comma after the last member
)

// Scan is [Dialect.Scan] for JSON.
func Scan(src []byte) ([]Span, error) { return JSON.Scan(src) }

// Get is [Dialect.Get] for JSON.
func Get(src []byte, path ...string) ([]byte, bool, error) { return JSON.Get(src, path...) }

// Set is [Dialect.Set] for JSON.
func Set(src, value []byte, path ...string) ([]byte, error) { return JSON.Set(src, value, path...) }

// Remove is [Dialect.Remove] for JSON.
func Remove(src []byte, key string) ([]byte, int, error) { return JSON.Remove(src, key) }

// Drop is [Dialect.Drop] for JSON.
func Drop(src []byte, path ...string) ([]byte, error) { return JSON.Drop(src, path...) }

// Scan returns the members of src, which must be one object, in their order and with repeated keys.
func (d Dialect) Scan(src []byte) ([]Span, error) {
	src = d.code(src)
	if d == JSONC {
		src = withoutCommas(src)
	}
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
func (d Dialect) Get(src []byte, path ...string) ([]byte, bool, error) {
	for _, key := range path {
		spans, err := d.Scan(src)
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
func (d Dialect) Set(src, value []byte, path ...string) ([]byte, error) {
	spans, err := d.Scan(src)
	if err != nil {
		return nil, err
	}
	key, deeper := path[0], path[1:]
	if len(deeper) > 0 {
		inner := []byte("{}")
		if s, ok := Find(spans, key); ok {
			inner = src[s.Value:s.After]
		}
		if value, err = d.Set(inner, value, deeper...); err != nil {
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
	return d.add(out, spans, Encode(key), value), nil
}

// add adds a member, whose key is missing, at the end of the object.
func (d Dialect) add(src []byte, spans []Span, key, value []byte) []byte {
	code := d.code(src)
	compact := slices.Concat(key, []byte{':'}, value)
	if len(spans) == 0 {
		at := bytes.IndexByte(code, '{') + 1
		return Replace(src, at, at, compact)
	}
	last := spans[len(spans)-1]
	before := code[:last.Start]
	indent := src[bytes.LastIndexByte(before, '\n')+1 : last.Start]
	if len(indent) == len(before) || len(bytes.TrimLeft(indent, " \t")) > 0 { // the last has no line of its own
		return Replace(src, last.After, last.After, append([]byte{','}, compact...))
	}
	newline := []byte("\n")
	if bytes.HasSuffix(before[:len(before)-len(indent)], []byte("\r\n")) {
		newline = []byte("\r\n")
	}
	line := slices.Concat(newline, indent, key, []byte(": "), value)
	// What follows the last member on its line belongs to it: a comment, and a comma that is there already.
	end := last.After
	if i := bytes.IndexByte(code[end:], '\n'); i >= 0 && len(bytes.Trim(code[end:end+i], " \t\r,")) == 0 {
		rest := bytes.TrimSuffix(src[end:end+i], []byte{'\r'})
		if bytes.Equal(rest, code[end:end+len(rest)]) { // a comma alone: blanks behind it stay at the end of what is new
			rest = bytes.TrimRight(rest, " \t")
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			end += len(rest)
		}
	}
	if bytes.IndexByte(code[last.After:end], ',') >= 0 {
		return Replace(src, end, end, append(line, ','))
	}
	return Replace(Replace(src, end, end, line), last.After, last.After, []byte{','})
}

// Remove returns src without any member of that key, with the white space before it, and how many members are left.
func (d Dialect) Remove(src []byte, key string) ([]byte, int, error) {
	out := bytes.Clone(src)
	for {
		spans, err := d.Scan(out)
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
		case d != JSON:
			out = cutMember(out, spans[i])
		case i > 0: // with the comma before it
			out = Replace(out, spans[i-1].After, spans[i].After, nil)
		case len(spans) > 1: // the first: with the comma after it
			out = Replace(out, spans[0].Start, spans[1].Start, nil)
		default:
			out = Replace(out, spans[0].Start, spans[0].After, nil)
		}
	}
}

// cutMember returns an object, which may have comments, without a member and one of the commas around it. All comments stay.
func cutMember(src []byte, s Span) []byte {
	code := withoutComments(src)
	from, to := s.Start, s.After
	comma := len(bytes.TrimRight(code[:from], " \t\r\n")) - 1 // the one before, if nothing but blanks is in between
	if code[comma] == ',' && len(bytes.TrimSpace(src[comma+1:from])) == 0 {
		return Replace(src, comma, to, nil)
	}
	switch after := bytes.TrimLeft(code[to:], " \t\r\n"); {
	case after[0] == ',' && len(bytes.TrimSpace(src[to:len(src)-len(after)])) == 0:
		to, comma = len(src)-len(after)+1, -1
	case after[0] == ',':
		comma = len(src) - len(after)
	case code[comma] != ',':
		comma = -1
	}
	begin := bytes.LastIndexByte(src[:from], '\n') + 1
	if end := bytes.IndexByte(src[to:], '\n'); begin > 0 && end >= 0 && len(bytes.TrimSpace(src[begin:from])) == 0 &&
		len(bytes.TrimSpace(src[to:to+end])) == 0 { // it has the line for itself
		from, to = begin, to+end+1
	}
	switch {
	case comma >= to:
		return Replace(Replace(src, comma, comma+1, nil), from, to, nil)
	case comma >= 0:
		return Replace(Replace(src, from, to, nil), comma, comma+1, nil)
	}
	return Replace(src, from, to, nil)
}

// Drop returns src without what is at the path. Objects that are empty after that are removed as well.
func (d Dialect) Drop(src []byte, path ...string) ([]byte, error) {
	if len(path) == 1 {
		out, _, err := d.Remove(src, path[0])
		return out, err
	}
	inner, ok, err := d.Get(src, path[0])
	if err != nil || !ok {
		return src, err
	}
	if inner, err = d.Drop(inner, path[1:]...); err != nil {
		return nil, err
	}
	if left, err := d.Scan(inner); err == nil && len(left) == 0 {
		return d.Drop(src, path[0])
	}
	return d.Set(src, inner, path[0])
}

// code returns src with blanks in the place of comments.
func (d Dialect) code(src []byte) []byte {
	if d == JSON {
		return src
	}
	return withoutComments(src)
}

// withoutComments returns src with blanks in the place of comments, so that all else stays where it is. A comment of several
// lines becomes one line.
func withoutComments(src []byte) []byte {
	out := bytes.Clone(src)
	for i := 0; i < len(out); i++ {
		end := 0
		switch rest := out[i:]; {
		case rest[0] == '"':
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
			continue
		case bytes.HasPrefix(rest, []byte("//")):
			if end = bytes.IndexAny(rest, "\r\n"); end < 0 {
				end = len(rest)
			}
		case bytes.HasPrefix(rest, []byte("/*")):
			n := bytes.Index(rest[2:], []byte("*/"))
			if n < 0 {
				return out // not valid, because nothing ends the comment
			}
			end = n + 4
		default:
			continue
		}
		for ; end > 0; end-- {
			out[i] = ' '
			i++
		}
		i--
	}
	return out
}

// withoutCommas returns src, which has no comments, with a blank in the place of each comma before a closing bracket.
func withoutCommas(src []byte) []byte {
	out := bytes.Clone(src)
	comma, value := -1, false // where the last comma is, if only blanks follow it; whether a value is before here
	for i := 0; i < len(out); i++ {
		switch out[i] {
		case ' ', '\t', '\r', '\n':
			continue
		case ',':
			comma = -1
			if value {
				comma = i
			}
			value = false
			continue
		case '"':
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
			value = true
		case '}', ']':
			if comma >= 0 {
				out[comma] = ' '
			}
			value = true
		case '{', '[', ':':
			value = false
		default:
			value = true
		}
		comma = -1
	}
	return out
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
