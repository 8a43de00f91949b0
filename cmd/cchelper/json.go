package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// document is a JSON object. Its members are found by their names without case.
type document map[string][]member

type member struct {
	name  string
	value json.RawMessage
}

// documentOf reads an object. It refuses what programs read in different ways: bytes that are not UTF-8, and anything after the
// object.
func documentOf(text []byte) (document, error) {
	switch {
	case !utf8.Valid(text):
		return nil, errors.New("it is not UTF-8")
	case !json.Valid(text): // or there is something after it
		return nil, errors.New("it is not JSON")
	}
	in := json.NewDecoder(bytes.NewReader(text))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	o := document{}
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return nil, errors.New("it is not JSON")
		}
		m := member{name: name.(string)}
		if in.Decode(&m.value) != nil {
			return nil, errors.New("it is not JSON")
		}
		folded := fold(m.name)
		o[folded] = append(o[folded], m)
	}
	return o, nil
}

// fold returns the same text for names that differ only in case, as encoding/json compares them.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}

// member returns a member's value, nil if there is none. It fails if the name is there twice or in other letters, because
// programs differ in which one they take. Members that nobody asks for may be there in any way: they are none of our business.
func (o document) member(name string) (json.RawMessage, error) {
	switch found := o[fold(name)]; {
	case len(found) == 0:
		return nil, nil
	case len(found) > 1:
		return nil, errors.New("it has " + name + " twice")
	case found[0].name != name:
		return nil, errors.New("it has " + name + " in other letters")
	default:
		return found[0].value, nil
	}
}

// object returns a member that is an object, nil if there is none.
func (o document) object(name string) (document, error) {
	value, err := o.member(name)
	if value == nil || err != nil {
		return nil, err
	}
	inner, err := documentOf(value)
	if err != nil {
		return nil, errors.New(name + ": " + err.Error())
	}
	return inner, nil
}

// text returns a member that is a string. It fails if there is none.
func (o document) text(name string) (string, error) {
	value, err := o.member(name)
	if err != nil {
		return "", err
	}
	var s *string // null stays nil
	if value == nil || json.Unmarshal(value, &s) != nil || s == nil {
		return "", errors.New("it has no " + name + " that is a string")
	}
	return *s, nil
}
