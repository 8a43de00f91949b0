package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// source is what is imported.
type source struct {
	path string // "" is standard input, or the keyring
	store.Portable
	info    fs.FileInfo // nil for what is no file
	keyring bool        // it is the predecessor's item
	client  string      // the OAuth client that it was made for, where that is known
}

func (s source) String() string {
	if s.keyring {
		return "the keyring's item claude-code-proxy"
	}
	return cmp.Or(s.path, "standard input")
}

// argument is how it is named to import.
func (s source) argument() string {
	if s.keyring {
		return "--keyring"
	}
	return cmp.Or(s.path, "-")
}

// findSource reads what the arguments name, or the first file of the search order that exists.
func findSource(c *cli.Context, env environ.Vars, profile agent.Profile) (source, error) {
	identity := func() (store.Identity, error) { return importIdentity(c) }
	switch file := c.Args().First(); {
	case c.Bool("keyring") && file != "":
		return source{}, usagef(c, "--keyring and a file exclude each other")
	case c.Bool("keyring"):
		return predecessorItem(c)
	case file == "-":
		p, err := store.Read(c.App.Reader, identity)
		return source{Portable: p}, from("standard input", err)
	case file != "":
		path, err := filepath.Abs(file)
		if err != nil {
			return source{}, err
		}
		path, client, err := sdkSource(path)
		if err != nil {
			return source{}, err
		}
		s, err := readSource(path, identity)
		s.client = client
		if err == nil && s.is(predecessorFile(env)) {
			s.addAccount(filepath.Join(filepath.Dir(path), "account.json"))
		}
		return s, err
	}
	places := searchOrder(env, profile)
	for _, path := range places {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			s, err := readSource(path, identity)
			if err == nil && path == predecessorFile(env) {
				s.addAccount(filepath.Join(filepath.Dir(path), "account.json"))
			}
			return s, err
		}
	}
	if s, err := predecessorItem(c); err == nil {
		return s, nil
	}
	return source{}, &protocol.Error{
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
	if dir := cmp.Or(config.ClaudeDir(getenv, profile), env.ClaudeDir()); dir != "" {
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
func predecessorItem(c *cli.Context) (source, error) {
	asking, cancel := context.WithTimeout(c.Context, 10*time.Second)
	defer cancel()
	record, err := store.ReadPredecessorKeyring(asking)
	return source{Portable: store.Portable{Record: record}, keyring: true}, err
}

// addAccount adds who is signed in, from the predecessor's account.json. One that is absent or of another form is no loss:
// the provider can be asked.
func (s *source) addAccount(path string) {
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

// importIdentity is what opens an encrypted export.
func importIdentity(c *cli.Context) (store.Identity, error) {
	path := c.String("identity")
	if path == "" {
		return store.Identity{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "the input is encrypted",
			Hint:    "name what opens it: --identity FILE",
		}
	}
	key, err := store.UnlockIdentity(path, protocol.Secret{})
	if errors.Is(err, protocol.ErrLocked) {
		var passphrase protocol.Secret
		if passphrase, err = terminal.AskPassphrase(c.Context, err.Error()); err != nil {
			return store.Identity{}, err
		}
		key, err = store.UnlockIdentity(path, passphrase)
	}
	if err != nil {
		return store.Identity{}, err
	}
	return store.ParseIdentity(key)
}

func readSource(path string, identity func() (store.Identity, error)) (source, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang us
	if errors.Is(err, fs.ErrNotExist) {
		return source{}, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: path + " does not exist",
			Hint:    "name another file; without one the usual places are looked at: ccagent import",
		}
	}
	if err != nil {
		return source{}, files.StorageError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return source{}, files.StorageError(err)
	}
	if !info.Mode().IsRegular() {
		return source{}, &protocol.Error{
			Code:    protocol.CodeInvalid,
			Message: path + " is not a regular file",
			Hint:    "name the file that holds the sign-in",
		}
	}
	p, err := store.Read(f, identity)
	return source{path: path, Portable: p, info: info}, from(path, err)
}

// from names the file in an error of package store, which knows it as "the input".
func from(name string, err error) error {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return err
	}
	return &protocol.Error{Code: e.Code, Message: strings.Replace(e.Message, "the input", name, 1), Hint: e.Hint}
}

// claudeDirFor is the directory of the Claude Code that uses the source, "" if it isn't Claude Code's.
func claudeDirFor(from source, profile agent.Profile) string {
	if from.info == nil {
		return ""
	}
	if dir := config.ClaudeDir(getenv, profile); dir != "" && from.is(environ.ClaudeFile(dir)) {
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
func (s source) is(path string) bool {
	info, err := os.Stat(path)
	return err == nil && s.info != nil && os.SameFile(info, s.info)
}

// hasSignIn reports whether Claude Code is signed in there.
func hasSignIn(dir string) bool {
	if dir == "" {
		return false
	}
	_, err := readSource(environ.ClaudeFile(dir), nil)
	return err == nil
}

// retires reports whether the source is one that the predecessor is to find no more.
func (s source) retires() bool {
	return !s.Record.RefreshToken.Empty() && (s.keyring || s.path != "" && s.is(predecessorFile(getenv)))
}

// retire sees to it that a sign-in that rotates has one home, now that it is stored: the predecessor finds it no more, which it
// says. An error says that it still does. Whoever has another file is told to delete it.
func (s source) retire(c *cli.Context) (said string, err error) {
	switch {
	case s.Record.RefreshToken.Empty(), s.path == "" && !s.keyring:
		return "", nil
	case s.keyring:
		err = store.DeletePredecessorKeyring(c.Context, s.Record)
		said = fmt.Sprintf("%s is deleted, so that the sign-in has one home", s)
	case !s.retires(): // it may lie where nothing of ours may write, as on a stick
		terminal.Warn(c.App.ErrWriter, "%s still holds the refresh token, which is now ccagent's to renew: delete the file", s)
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
func (s source) rename() (string, error) {
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
