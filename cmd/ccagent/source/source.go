// Package source finds and reads the sign-ins that `ccagent import` takes over: files of Claude Code, of the Python predecessor
// and of the vendor's SDKs, exports, and the keyring.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Source is what is imported.
type Source struct {
	path string // "" is standard input, or the keyring
	store.Portable
	info    fs.FileInfo // nil for what is no file
	keyring bool        // it is the predecessor's item
	Client  string      // the OAuth client that it was made for, where that is known
}

func (s Source) String() string {
	if s.keyring {
		return "the keyring's item claude-code-proxy"
	}
	return cmp.Or(s.path, "standard input")
}

// Argument is how it is named to import.
func (s Source) Argument() string {
	if s.keyring {
		return "--keyring"
	}
	return cmp.Or(s.path, "-")
}

// Place is where a source is looked for.
type Place struct {
	File     string                         // "-" is in; "" the first of the usual places that exists
	Keyring  bool                           // the Python predecessor's item in the keyring, and no file
	In       io.Reader                      // standard input
	Identity func() (store.Identity, error) // opens an encrypted export
}

// Find reads what is to be imported. The usual places are those of this environment and of the profile.
func Find(ctx context.Context, env environ.Vars, at Place, profile agent.Profile) (Source, error) {
	identity := at.Identity
	switch file := at.File; {
	case at.Keyring:
		return predecessorItem(ctx)
	case file == "-":
		p, err := store.Read(at.In, identity)
		return Source{Portable: p}, from("standard input", err)
	case file != "":
		path, err := filepath.Abs(file)
		if err != nil {
			return Source{}, err
		}
		path, client, err := sdkSource(path)
		if err != nil {
			return Source{}, err
		}
		s, err := Read(path, identity)
		s.Client = client
		if err == nil && s.is(predecessorFile(env)) {
			s.addAccount(filepath.Join(filepath.Dir(path), "account.json"))
		}
		return s, err
	}
	places := searchOrder(env, profile)
	for _, path := range places {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			s, err := Read(path, identity)
			if err == nil && path == predecessorFile(env) {
				s.addAccount(filepath.Join(filepath.Dir(path), "account.json"))
			}
			return s, err
		}
	}
	if s, err := predecessorItem(ctx); err == nil {
		return s, nil
	}
	return Source{}, &protocol.Error{
		Code:    protocol.CodeNotFound,
		Message: "there is nothing to import in " + strings.Join(places, ", ") + " or the keyring",
		Hint:    "sign in with Claude Code (claude, then /login), or name a file: ccagent import FILE",
	}
}

// sdkSource follows the configuration of a profile of the vendor's SDKs to the file with its sign-in, and returns the client that
// this was made for. Any other file is what it is.
func sdkSource(path string) (credentials, client string, err error) {
	cfg := path
	if dir := filepath.Dir(path); filepath.Base(dir) == "credentials" {
		cfg = filepath.Join(filepath.Dir(dir), "configs", filepath.Base(path))
	}
	profile, err := store.ReadSDKConfig(cfg)
	switch {
	case cfg != path: // what is wrong with it is not what was asked
		return path, profile.ClientID, nil
	case errors.Is(err, protocol.ErrNotFound):
		return path, "", nil
	case err != nil:
		return "", "", err
	}
	if _, err := os.Stat(profile.Credentials); errors.Is(err, fs.ErrNotExist) {
		return "", "", &protocol.Error{Code: protocol.CodeNotFound,
			Message: path + " configures a profile of the vendor's SDKs whose sign-in is not there: " + profile.Credentials +
				" does not exist",
			Hint: "sign in with the program that uses the profile, or name the file that holds the sign-in: ccagent import FILE"}
	}
	return profile.Credentials, profile.ClientID, nil
}

func searchOrder(env environ.Vars, profile agent.Profile) []string {
	var places []string
	if path := predecessorFile(env); path != "" {
		places = append(places, path)
	}
	if dir := cmp.Or(config.ClaudeDir(env, profile), env.ClaudeDir()); dir != "" {
		places = append(places, environ.ClaudeFile(dir))
	}
	if home := env("HOME"); filepath.IsAbs(home) {
		places = append(places, filepath.Join(home, ".config/claude/.credentials.json"))
	}
	return places
}

// predecessorFile is where the Python predecessor keeps its sign-in, "" without a home.
func predecessorFile(env environ.Vars) string {
	home := env("HOME")
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".config/ccproxy/credentials.json")
}

// predecessorItem is what the Python predecessor keeps in the keyring.
func predecessorItem(parent context.Context) (Source, error) {
	asking, cancel := context.WithTimeout(parent, 10*time.Second)
	defer cancel()
	record, err := store.ReadPredecessorKeyring(asking)
	return Source{Portable: store.Portable{Record: record}, keyring: true}, err
}

// addAccount adds who is signed in, from the predecessor's account.json. One that is absent or of another form is no loss:
// the provider can be asked.
func (s *Source) addAccount(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if identity, err := store.ReadAccount(f); err == nil {
		identity.Fetched = info.ModTime()
		s.Record.Identity = identity
	}
}

// Read reads a file. identity opens it if it is an encrypted export, and may be nil where it is none.
func Read(path string, identity func() (store.Identity, error)) (Source, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang us
	if errors.Is(err, fs.ErrNotExist) {
		return Source{}, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: path + " does not exist",
			Hint:    "name another file; without one the usual places are looked at: ccagent import",
		}
	}
	if err != nil {
		return Source{}, files.StorageError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Source{}, files.StorageError(err)
	}
	if !info.Mode().IsRegular() {
		return Source{}, &protocol.Error{
			Code:    protocol.CodeInvalid,
			Message: path + " is not a regular file",
			Hint:    "name the file that holds the sign-in",
		}
	}
	p, err := store.Read(f, identity)
	return Source{path: path, Portable: p, info: info}, from(path, err)
}

// from names the file in an error of package store, which knows it as "the input".
func from(name string, err error) error {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return err
	}
	return &protocol.Error{Code: e.Code, Message: strings.Replace(e.Message, "the input", name, 1), Hint: e.Hint}
}

// ClaudeDir is the directory of the Claude Code that uses the source, "" if it isn't Claude Code's.
func ClaudeDir(env environ.Vars, from Source, profile agent.Profile) string {
	if from.info == nil {
		return ""
	}
	if dir := config.ClaudeDir(env, profile); dir != "" && from.is(environ.ClaudeFile(dir)) {
		return dir // by whatever path or link
	}
	if filepath.Base(from.path) == ".credentials.json" {
		return filepath.Dir(from.path)
	}
	if target, err := filepath.EvalSymlinks(from.path); err == nil && filepath.Base(target) == ".credentials.json" {
		return filepath.Dir(target)
	}
	return ""
}

// is reports whether the source is the file at path, by whatever name.
func (s Source) is(path string) bool {
	info, err := os.Stat(path)
	return err == nil && s.info != nil && os.SameFile(info, s.info)
}

// HasSignIn reports whether Claude Code is signed in there.
func HasSignIn(dir string) bool {
	if dir == "" {
		return false
	}
	_, err := Read(environ.ClaudeFile(dir), nil)
	return err == nil
}

// Retires reports whether the source is one that the predecessor is to find no more.
func (s Source) Retires(env environ.Vars) bool {
	return !s.Record.RefreshToken.Empty() && (s.keyring || s.path != "" && s.is(predecessorFile(env)))
}

// Retire sees to it that a sign-in that rotates has one home, now that it is stored: the predecessor finds it no more, which it
// says. An error says that it still does. Whoever has another file is told to delete it.
func (s Source) Retire(ctx context.Context, env environ.Vars, warnings io.Writer) (said string, err error) {
	switch {
	case s.Record.RefreshToken.Empty(), s.path == "" && !s.keyring:
		return "", nil
	case s.keyring:
		err = store.DeletePredecessorKeyring(ctx, s.Record)
		said = fmt.Sprintf("%s is deleted, so that the sign-in has one home", s)
	case !s.Retires(env): // it may lie where nothing of ours may write, as on a stick
		terminal.Warn(warnings, "%s still holds the refresh token, which is now ccagent's to renew: delete the file", s)
		return "", nil
	default:
		var retired string
		retired, err = s.rename()
		said = fmt.Sprintf("%s is now %s, so that the sign-in has one home", s, retired)
	}
	if err != nil {
		return "", &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: fmt.Sprintf("%s could not be taken away from the predecessor: %v", s, err),
			Hint:    "a sign-in that renews itself has one home: take it over where that can be changed",
		}
	}
	return said, nil
}

// rename renames the predecessor's file, to where it does not look for it. What somebody else has put in its place stays as it
// is.
func (s Source) rename() (string, error) {
	path := s.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if !os.SameFile(info, s.info) {
		return "", errors.New("it was replaced meanwhile")
	}
	if err := f.Chmod(0o600); err != nil {
		return "", err
	}
	retired := path + ".imported"
	return retired, os.Rename(path, retired)
}
