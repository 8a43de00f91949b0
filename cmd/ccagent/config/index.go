package config

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlIndex says where in a document its keys and tables are. Messages and edits need it.
type tomlIndex struct {
	keys   []tomlKey
	tables []tomlTable
}

// tomlKey is one key or the name of one table, with its line.
type tomlKey struct {
	path []string
	line int
}

// tomlTable is one [header] with its keys. Comments and blank lines before and after a table do not belong to it.
type tomlTable struct {
	path       []string
	start, end int // offsets in bytes: the beginning of the header's line, and the end of the last key's line
}

// indexTOML indexes a document. With an error, the index has everything before the fault.
func indexTOML(text []byte) (tomlIndex, error) {
	var x tomlIndex
	var table []string
	var p unstable.Parser
	p.Reset(text)
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = x.addKey(&p, nil, e.Key())
			if e.Kind == unstable.ArrayTable && len(table) > 1 { // [[use]] is looked up in a way of its own
				table = append(table, strconv.Itoa(len(x.below(table...))))
				x.keys = append(x.keys, tomlKey{table, p.Shape(firstKey(e).Raw).Start.Line})
			}
			at := int(firstKey(e).Raw.Offset)
			x.tables = append(x.tables, tomlTable{path: table, start: bytes.LastIndexByte(text[:at], '\n') + 1})
		case unstable.KeyValue:
			x.addValue(&p, table, e)
		}
	}
	for i := range x.tables {
		end := len(text)
		if i+1 < len(x.tables) {
			end = x.tables[i+1].start
		}
		x.tables[i].end = trimRemarks(text, x.tables[i].start, end)
	}
	return x, p.Error()
}

func firstKey(e *unstable.Node) *unstable.Node {
	it := e.Key()
	it.Next()
	return it.Node()
}

// addKey adds the key that the iterator yields to the index, and returns its path below the table.
func (x *tomlIndex) addKey(p *unstable.Parser, table []string, it unstable.Iterator) []string {
	path := slices.Clone(table)
	for it.Next() {
		path = append(path, string(it.Node().Data))
		x.keys = append(x.keys, tomlKey{slices.Clone(path), p.Shape(it.Node().Raw).Start.Line})
	}
	return path
}

func (x *tomlIndex) addValue(p *unstable.Parser, table []string, kv *unstable.Node) {
	x.addMembers(p, x.addKey(p, table, kv.Key()), kv.Value())
}

// addMembers adds what is in a table or an array. The elements of an array count from 0.
func (x *tomlIndex) addMembers(p *unstable.Parser, path []string, value *unstable.Node) {
	n := 0
	for it := value.Children(); it.Next(); {
		switch node := it.Node(); {
		case node.Kind == unstable.Comment:
		case value.Kind == unstable.InlineTable && node.Kind == unstable.KeyValue:
			x.addValue(p, path, node)
		case value.Kind == unstable.Array:
			element := append(slices.Clone(path), strconv.Itoa(n))
			n++
			if node.Raw.Length > 0 {
				x.keys = append(x.keys, tomlKey{element, p.Shape(node.Raw).Start.Line})
			}
			x.addMembers(p, element, node)
		}
	}
}

// trimRemarks moves end back over blank lines and comments. The last line of a value is never one of these.
func trimRemarks(text []byte, start, end int) int {
	for end > start {
		line := bytes.LastIndexByte(text[start:end-1], '\n') + 1 + start
		if rest := bytes.TrimSpace(text[line:end]); line == start || len(rest) > 0 && rest[0] != '#' {
			break
		}
		end = line
	}
	return end
}

// line returns the line of the key at path. If it is not there, it returns the line of the innermost table around it that is, or
// 0.
func (x *tomlIndex) line(path ...string) int {
	for ; len(path) > 0; path = path[:len(path)-1] {
		for _, key := range x.keys {
			if slices.Equal(key.path, path) {
				return key.line
			}
		}
	}
	return 0
}

// below returns the keys directly below the path, in order.
func (x *tomlIndex) below(path ...string) []string {
	var keys []string
	for _, key := range x.keys {
		if n := len(path); len(key.path) > n && slices.Equal(key.path[:n], path) && !slices.Contains(keys, key.path[n]) {
			keys = append(keys, key.path[n])
		}
	}
	return keys
}
