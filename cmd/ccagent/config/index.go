package config

import (
	"bytes"
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlIndex says where in a document its keys and tables are, for messages and for the editor.
type tomlIndex struct {
	keys   []tomlKey
	tables []tomlTable
}

// tomlKey is one key, or the name of one table.
type tomlKey struct {
	path []string
	line int
}

// tomlTable is one [header] and what belongs to it. Comments and blank lines around a table belong to nobody.
type tomlTable struct {
	path       []string
	start, end int // from the beginning of the header's line to the end of the last key's
}

// indexTOML indexes what can be parsed of text.
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

// addKey notes the key that it holds, below the table, and returns its path.
func (x *tomlIndex) addKey(p *unstable.Parser, table []string, it unstable.Iterator) []string {
	path := slices.Clone(table)
	for it.Next() {
		path = append(path, string(it.Node().Data))
		x.keys = append(x.keys, tomlKey{slices.Clone(path), p.Shape(it.Node().Raw).Start.Line})
	}
	return path
}

func (x *tomlIndex) addValue(p *unstable.Parser, table []string, kv *unstable.Node) {
	path := x.addKey(p, table, kv.Key())
	if kv.Value().Kind != unstable.InlineTable {
		return
	}
	for it := kv.Value().Children(); it.Next(); {
		if it.Node().Kind == unstable.KeyValue {
			x.addValue(p, path, it.Node())
		}
	}
}

// trimRemarks moves end back over lines that are blank or a comment. No line that ends a value is one.
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

// line is where the path is, or the nearest of what it is in; 0 when there is none of it.
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
