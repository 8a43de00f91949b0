package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Edit is a change that was made in config.toml and can be undone.
type Edit struct {
	env           environ.Vars
	Path          string
	before, after []byte // the text; before is nil if there was no file
}

// Changes reports whether the file holds anything else after the edit than before it.
func (e *Edit) Changes() bool { return !bytes.Equal(e.before, e.after) }

// Add appends a profile's table to config.toml. With replace it first removes a table of that name, in whatever case. A table
// that says the same already stays as it is, with replace or without. It writes the file only if the result says exactly what was
// meant and is valid as a whole.
func Add(ctx context.Context, env environ.Vars, name string, table Table, replace bool) (*Edit, error) {
	return editConfig(ctx, env, adding(name, table, replace))
}

// AddUnless is Add, except that it leaves a table of that name as it is if keep returns true for it. kept reports whether the
// file stayed as it was.
func AddUnless(ctx context.Context, env environ.Vars, name string, table Table, replace bool,
	keep func(Table) bool) (edit *Edit, kept bool, err error) {
	edit, err = editConfig(ctx, env, func(d *document, text []byte) ([]byte, error) {
		if old := d.written(name); old != "" && (keep(d.Profiles[old]) || reflect.DeepEqual(d.Profiles[old], table)) {
			kept = true
			return text, nil
		}
		return adding(name, table, replace)(d, text)
	})
	return edit, kept, err
}

// Plan is Add without the writing. It returns what the configuration would be, and fails if Add would, or if the file can't be
// written.
func Plan(env environ.Vars, name string, table Table, replace bool) (agent.Config, error) {
	path, err := env.ConfigFile()
	if err != nil {
		return agent.Config{}, err
	}
	edit, cfg, err := planEdit(env, path, adding(name, table, replace))
	if err != nil {
		return cfg, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return cfg, unwritten(err)
	}
	if err := files.TryReplace(path, edit.after, 0o600); err != nil {
		return cfg, unwritten(err)
	}
	return cfg, nil
}

// adding is the change that Add makes.
func adding(name string, table Table, replace bool) func(*document, []byte) ([]byte, error) {
	return func(d *document, text []byte) ([]byte, error) {
		if old := d.written(name); old != "" {
			if reflect.DeepEqual(d.Profiles[old], table) {
				return text, nil
			}
			if !replace {
				return nil, &protocol.Error{
					Code:    protocol.CodeConfig,
					Message: fmt.Sprintf("there is a profile %s already", old),
					Hint:    "replace it with --force, or choose another name",
				}
			}
			if table.Views == nil && table.Provider == d.Profiles[old].Provider {
				table.Views = d.Profiles[old].Views // no command that replaces a table can name views
			}
			text = cutTables(text, d.index, "profiles", old)
			delete(d.Profiles, old)
		}
		if d.Profiles == nil {
			d.Profiles = map[string]Table{}
		}
		d.Profiles[name] = table
		return AppendTable(text, name, table), nil
	}
}

// Remove deletes a profile's table from config.toml. It returns ErrNotFound if there is none.
func Remove(ctx context.Context, env environ.Vars, name string) (*Edit, error) {
	return editConfig(ctx, env, removing(name))
}

// removing is the change that Remove makes.
func removing(name string) func(*document, []byte) ([]byte, error) {
	return func(d *document, text []byte) ([]byte, error) {
		old := d.written(name)
		if old == "" {
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: fmt.Sprintf("there is no profile %q in %s", name, d.path)}
		}
		delete(d.Profiles, old)
		text = d.withoutUses(text, old)
		index, err := indexTOML(text)
		if err != nil {
			return nil, err
		}
		return cutTables(text, index, "profiles", old), nil
	}
}

// SetStore changes a profile's store in config.toml. If the file has no table for the profile, it changes nothing: the profile is
// the built-in one, and its store is auto.
func SetStore(ctx context.Context, env environ.Vars, name string, kind store.Kind) (*Edit, error) {
	return editConfig(ctx, env, func(d *document, text []byte) ([]byte, error) {
		name := d.written(name)
		if name == "" {
			return text, nil
		}
		table := d.Profiles[name]
		table.Store = string(kind)
		d.Profiles[name] = table
		return setKey(text, d.index, name, "store", Quote(string(kind))), nil
	})
}

// SetClient changes which client a profile is at its provider, after ccagent has registered it anew. auth is "" for a public
// client.
func SetClient(ctx context.Context, env environ.Vars, name, id, auth string, port int) (*Edit, error) {
	return editConfig(ctx, env, func(d *document, text []byte) ([]byte, error) {
		name := d.written(name)
		table, ok := d.Profiles[name]
		if !ok {
			return text, nil
		}
		table.ClientID, table.RedirectPort, table.ClientAuth = &id, &port, nil
		values := []struct{ key, value string }{{"client_id", Quote(id)}, {"redirect_port", strconv.Itoa(port)}, {"client_auth", ""}}
		if auth != "" {
			table.ClientAuth, values[2].value = &auth, Quote(auth)
		}
		d.Profiles[name] = table
		for _, v := range values {
			index, err := indexTOML(text)
			if err != nil {
				return nil, err
			}
			text = setKey(text, index, name, v.key, v.value)
		}
		return text, nil
	})
}

// setKey sets a key of a profile's table, or removes it if value is "". The value that it replaces has to be a string, a number,
// a list, or an array of tables [[profiles.NAME.KEY]]. Any other document is returned as it is; planEdit compares the result with
// what was meant, and so notices that.
func setKey(text []byte, index tomlIndex, profile, key, value string) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	header := index.line("profiles", profile)
	if header == 0 {
		return text
	}
	inTables := slices.ContainsFunc(index.tables, func(t tomlTable) bool {
		return len(t.path) > 3 && slices.Equal(t.path[:3], []string{"profiles", profile, key})
	})
	if inTables {
		text = cutTables(text, index, "profiles", profile, key)
		lines = bytes.SplitAfter(text, []byte("\n"))
	}
	if inTables || !slices.Contains(index.below("profiles", profile), key) {
		if value == "" {
			return text
		}
		if !bytes.HasSuffix(lines[header-1], []byte("\n")) {
			lines[header-1] = append(lines[header-1], '\n')
		}
		return bytes.Join(slices.Insert(lines, header, []byte(key+" = "+value+"\n")), nil)
	}
	return replaceValue(text, index.line("profiles", profile, key), key, value)
}

// replaceValue writes the value of the key at a line anew; "" removes the key.
func replaceValue(text []byte, line int, key, value string) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if line < 1 || line > len(lines) {
		return text
	}
	before, after := bytes.Join(lines[:line-1], nil), bytes.Join(lines[line-1:], nil)
	begins := regexp.MustCompile(`^\s*` + key + `\s*=\s*`).FindIndex(after)
	if begins == nil {
		return text
	}
	length := valueLength(after[begins[1]:])
	end := begins[1] + length
	switch {
	case length == 0:
		return text
	case value == "":
		_, rest, _ := bytes.Cut(after[end:], []byte("\n"))
		return slices.Concat(before, rest)
	}
	return slices.Concat(before, []byte(key+" = "+value), after[end:])
}

// valueLength returns how many bytes the string, the list or the whole number is long that text begins with, or 0 if it begins
// with none of them.
func valueLength(text []byte) int {
	if digits := len(text) - len(bytes.TrimLeft(text, "0123456789")); digits > 0 {
		return digits
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\'':
			n := stringLength(text[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == '#' && depth > 0:
			n := bytes.IndexByte(text[i:], '\n')
			if n < 0 {
				return 0
			}
			i += n
		}
		if depth == 0 {
			if first := text[0]; first != '[' && first != '"' && first != '\'' {
				return 0
			}
			return i + 1
		}
	}
	return 0
}

// stringLength returns how many bytes the string is long that text begins with. It is 0 if the string has no end in its line, or
// if it has three quotes.
func stringLength(text []byte) int {
	quote := text[0]
	if bytes.HasPrefix(text, []byte{quote, quote, quote}) {
		return 0
	}
	for i := 1; i < len(text) && text[i] != '\n'; i++ {
		switch {
		case text[i] == quote:
			return i + 1
		case text[i] == '\\' && quote == '"':
			i++
		}
	}
	return 0
}

// written returns a profile's name as config.toml spells it, or "" if it has no table of that name.
func (d *document) written(name string) string {
	for known := range d.Profiles {
		if strings.EqualFold(known, name) {
			return known
		}
	}
	return ""
}

// editConfig has change return the new text, and make the same change in the document, so that the two can be compared.
func editConfig(ctx context.Context, env environ.Vars, change func(*document, []byte) ([]byte, error)) (*Edit, error) {
	path, err := env.ConfigFile()
	if err != nil {
		return nil, err
	}
	unlock, err := lockConfig(ctx, path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	edit, _, err := planEdit(env, path, change)
	if err != nil {
		return nil, err
	}
	return edit, writeConfig(path, edit.after)
}

// ReadyToRemove fails if Remove would, and changes nothing. A command that deletes more than the table calls it before its first
// deletion, to learn whether config.toml can be written.
func ReadyToRemove(ctx context.Context, env environ.Vars, name string) error {
	path, err := env.ConfigFile()
	if err != nil {
		return err
	}
	unlock, err := lockConfig(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	edit, _, err := planEdit(env, path, removing(name))
	if err != nil {
		return err
	}
	if err := files.TryReplace(path, edit.after, 0o600); err != nil {
		return unwritten(err)
	}
	return nil
}

// planEdit prepares and checks an edit, and writes nothing. It returns what the configuration would be.
func planEdit(env environ.Vars, path string, change func(*document, []byte) ([]byte, error)) (*Edit, agent.Config, error) {
	var none agent.Config
	text, err := readConfig(path, env("HOME"))
	if err != nil {
		return nil, none, err
	}
	doc, err := parseConfig(path, text)
	if err != nil {
		return nil, none, err
	}
	after, err := change(doc, slices.Clone(text))
	if err != nil {
		return nil, none, err
	}
	got, err := parseConfig(path, after)
	if err != nil || !sameConfig(got.File, doc.File) {
		return nil, none, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: path + " is written in a way that ccagent can't edit safely",
			Hint:    "edit it by hand: " + path,
		}
	}
	cfg, err := got.resolve(env)
	if old, oldErr := parseConfig(path, text); err != nil && oldErr == nil {
		if _, oldErr := old.resolve(env); oldErr == nil { // the fault is in what was to be written, so it has no line in the file
			place := regexp.MustCompile(`^.*config\.toml(:\d+)?: `)
			err = &protocol.Error{
				Code:    protocol.CodeOf(err),
				Message: place.ReplaceAllString(err.Error(), ""),
				Hint:    "nothing was written to " + path + "; change that setting and try again",
			}
		}
	}
	return &Edit{env: env, Path: path, before: text, after: after}, cfg, err
}

// sameConfig reports whether two documents say the same.
func sameConfig(a, b File) bool {
	if a.DefaultProfile != b.DefaultProfile || !slices.Equal(a.Use, b.Use) ||
		!slices.Equal(a.LockOn, b.LockOn) || len(a.Profiles) != len(b.Profiles) {
		return false
	}
	for name, table := range a.Profiles {
		other, ok := b.Profiles[name]
		if !ok || !reflect.DeepEqual(table, other) {
			return false
		}
	}
	return true
}

// Undo restores the text from before the edit, unless somebody has changed the file since.
func (e *Edit) Undo(ctx context.Context) error {
	unlock, err := lockConfig(ctx, e.Path)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := readConfig(e.Path, e.env("HOME"))
	if err != nil {
		return err
	}
	if !bytes.Equal(now, e.after) {
		return &protocol.Error{Code: protocol.CodeConfig, Message: e.Path + " was changed in the meantime, so the edit stays"}
	}
	if e.before == nil {
		return os.Remove(e.Path)
	}
	return writeConfig(e.Path, e.before)
}

// lockConfig takes the lock that every command takes before it edits config.toml.
func lockConfig(ctx context.Context, path string) (unlock func(), err error) {
	return Lock(ctx, path, "another program is editing "+path)
}

// Lock takes the lock on path, which is config.toml or a file beside it. If somebody else holds it until ctx ends, the error has
// the message busy.
func Lock(ctx context.Context, path, busy string) (unlock func(), err error) {
	unlock, err = files.Lock(ctx, path, busy)
	if coded := (*protocol.Error)(nil); err != nil && !errors.As(err, &coded) {
		err = unwritten(err)
	}
	return unlock, err
}

// writeConfig replaces the file as a whole and durably. A new file gets mode 0600.
func writeConfig(path string, text []byte) error {
	if err := files.Replace(path, text, 0o600); err != nil {
		return unwritten(err)
	}
	return nil
}

// cutTables removes the table at path and the tables below it. With each it removes one blank line before it, which AppendTable
// has added.
func cutTables(text []byte, index tomlIndex, path ...string) []byte {
	for _, table := range slices.Backward(index.tables) {
		if len(table.path) < len(path) || !slices.Equal(table.path[:len(path)], path) {
			continue
		}
		text = cutTable(text, table)
	}
	return text
}

func cutTable(text []byte, table tomlTable) []byte {
	start := table.start
	if start == 1 && text[0] == '\n' || start > 1 && text[start-1] == '\n' && text[start-2] == '\n' {
		start--
	}
	return slices.Delete(text, start, table.end)
}

// endLine ends the last line, if it is not ended.
func endLine(text []byte) []byte {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return text
}

// AppendTable adds a profile's table to the end of a document.
func AppendTable(text []byte, name string, t Table) []byte {
	if text = endLine(text); len(text) > 0 {
		text = append(text, '\n')
	}
	key := name
	if strings.Contains(name, ".") {
		key = Quote(name)
	}
	text = fmt.Appendf(text, "[profiles.%s]\n", key)
	line := func(key string, value *string) {
		if value != nil {
			text = fmt.Appendf(text, "%s = %s\n", key, Quote(*value))
		}
	}
	list := func(key string, values []string) {
		if values != nil {
			text = fmt.Appendf(text, "%s = %s\n", key, tomlList(values))
		}
	}
	pairs := func(key string, values map[string]string) {
		if values == nil {
			return
		}
		var members []string
		for _, name := range slices.Sorted(maps.Keys(values)) {
			members = append(members, Quote(name)+" = "+Quote(values[name]))
		}
		text = fmt.Appendf(text, "%s = { %s }\n", key, strings.Join(members, ", "))
	}
	if t.Provider != "" {
		line("provider", &t.Provider)
	}
	if t.Store != "" {
		line("store", &t.Store)
	}
	line("identity", t.Identity)
	line("config_dir", t.ConfigDir)
	line("issuer", t.Issuer)
	line("mcp_url", t.MCPURL)
	line("grant", t.Grant)
	line("authorize_url", t.AuthorizeURL)
	line("token_url", t.TokenURL)
	line("device_url", t.DeviceURL)
	line("revoke_url", t.RevokeURL)
	line("introspect_url", t.IntrospectURL)
	line("profile_url", t.ProfileURL)
	line("paste_url", t.PasteURL)
	line("client_id", t.ClientID)
	line("client_auth", t.ClientAuth)
	line("client_key_file", t.ClientKeyFile)
	if t.Registered != nil {
		text = fmt.Appendf(text, "client_registered = %t\n", *t.Registered)
	}
	list("scopes", t.Scopes)
	line("audience", t.Audience)
	list("resource", t.Resource)
	if t.TokenExchange != nil {
		text = fmt.Appendf(text, "token_exchange = %t\n", *t.TokenExchange)
	}
	pairs("params", t.Params)
	pairs("authorize_params", t.AuthorizeParams)
	pairs("token_params", t.TokenParams)
	pairs("refresh_params", t.RefreshParams)
	line("user_agent", t.UserAgent)
	pairs("headers", t.Headers)
	line("ca_file", t.CAFile)
	line("client_cert", t.ClientCert)
	line("client_key", t.ClientKey)
	line("proxy", t.Proxy)
	line("assertion_file", t.AssertionFile)
	list("assertion_command", t.AssertionCommand)
	line("redirect_host", t.RedirectHost)
	if t.RedirectPort != nil {
		text = fmt.Appendf(text, "redirect_port = %d\n", *t.RedirectPort)
	}
	line("redirect_path", t.RedirectPath)
	line("login_timeout", t.LoginTimeout)
	list("command", t.Command)
	line("ttl", t.TTL)
	line("timeout", t.Timeout)
	list("hosts", t.Hosts)
	line("username", t.Username)
	if t.Views != nil {
		text = fmt.Appendf(text, "views = %s\n", tomlViews(t.Views))
	}
	return text
}

// Quote writes s as a basic string of TOML. Bytes that are not UTF-8 can't be written so, and come out as U+FFFD: see Encodable.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteString(string(r))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// tomlList writes an array of strings.
func tomlList(values []string) string {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = Quote(value)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// Encodable reports whether config.toml can hold all of the strings.
func Encodable(list ...string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !utf8.ValidString(s) })
}

// unwritten is the error for a failure to write config.toml or a file beside it.
func unwritten(err error) error {
	hint := disk.Hint(err)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		hint = "make that folder writable, or set XDG_CONFIG_HOME to one that is"
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml could not be written: " + err.Error(), Hint: hint}
}

// Written reports whether config.toml has a table for the profile. It returns false if the file can't be read.
func Written(env environ.Vars, name string) bool {
	path, err := env.ConfigFile()
	if err != nil {
		return false
	}
	text, err := readConfig(path, env("HOME"))
	if err != nil {
		return false
	}
	d, err := parseConfig(path, text)
	return err == nil && d.written(name) != ""
}
