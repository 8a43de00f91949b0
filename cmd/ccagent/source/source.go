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

// Source is a sign-in that is imported, and where it is from.
type Source struct {
	path string // empty for standard input and the keyring
	store.Portable
	info    fs.FileInfo // nil if it is not a file
	keyring bool        // it is the predecessor's item in the keyring
	Client  string      // the OAuth client that it was made for; empty if unknown
}

func (s Source) String() string {
	if s.keyring {
		return "the keyring's item claude-code-proxy"
	}
	return cmp.Or(s.path, "standard input")
}

// Argument returns the argument that makes `ccagent import` read this source.
func (s Source) Argument() string {
	if s.keyring {
		return "--keyring"
	}
	return cmp.Or(s.path, "-")
}

// Place says where to look for a source.
type Place struct {
	File     string                         // "-" is In; empty means the first of the usual places that exists
	Keyring  bool                           // look only for the Python predecessor's item in the keyring
	In       io.Reader                      // standard input
	Identity func() (store.Identity, error) // decrypts an encrypted export
}

// Find reads the sign-in that is imported. The environment and the profile determine the usual places.
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
	case cfg != path: // the sign-in was named, so faults of the configuration don't matter
		return path, profile.ClientID, nil
	case errors.Is(err, protocol.ErrNotFound):
		return path, "", nil
	case err != nil:
		return "", "", err
	}
	if _, err := os.Stat(profile.Credentials); errors.Is(err, fs.ErrNotExist) {
		return "", "", &protocol.Error{Code: protocol.CodeNotFound,
			Message: path + " configures a profile of the vendor's SDKs, but its sign-in is missing: " + profile.Credentials +
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

// predecessorFile returns the file with the Python predecessor's sign-in. It is empty if HOME is not set.
func predecessorFile(env environ.Vars) string {
	home := env("HOME")
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, ".config/ccproxy/credentials.json")
}

// predecessorItem reads the Python predecessor's item in the keyring.
func predecessorItem(parent context.Context) (Source, error) {
	asking, cancel := context.WithTimeout(parent, 10*time.Second)
	defer cancel()
	record, err := store.ReadPredecessorKeyring(asking)
	return Source{Portable: store.Portable{Record: record}, keyring: true}, err
}

// addAccount adds who is signed in, from the predecessor's account.json. It does not matter if that is missing or has another
// form, because the provider can be asked.
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

// Read reads a file. identity decrypts it if it is an encrypted export, and may be nil if it is not one.
func Read(path string, identity func() (store.Identity, error)) (Source, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang us
	if errors.Is(err, fs.ErrNotExist) {
		return Source{}, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: path + " does not exist",
			Hint:    "name another file, or none to search the usual places: ccagent import",
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
	if errors.Is(err, protocol.ErrInvalid) || errors.Is(err, protocol.ErrNotFound) { // its name may say more than what is in it
		if named := store.CheckName(path); named != nil {
			err = named
		}
	}
	return Source{path: path, Portable: p, info: info}, from(path, err)
}

// from puts the name of the file into an error of package store, which calls it "the input".
func from(name string, err error) error {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return err
	}
	return &protocol.Error{Code: e.Code, Message: strings.Replace(e.Message, "the input", name, 1), Hint: e.Hint}
}

// ClaudeDir returns the directory of the Claude Code that uses the source. It is empty if Claude Code does not use it.
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

// is reports whether the source is the file at path, even if it was named in another way.
func (s Source) is(path string) bool {
	info, err := os.Stat(path)
	return err == nil && s.info != nil && os.SameFile(info, s.info)
}

// HasSignIn reports whether Claude Code is signed in in this directory.
func HasSignIn(dir string) bool {
	if dir == "" {
		return false
	}
	_, err := Read(environ.ClaudeFile(dir), nil)
	return err == nil
}

// Retires reports whether [Source.Retire] hides the source from the predecessor.
func (s Source) Retires(env environ.Vars) bool {
	return !s.Record.RefreshToken.Empty() && (s.keyring || s.path != "" && s.is(predecessorFile(env)))
}

// Retire hides the source from the predecessor after the sign-in was stored, so that a sign-in that rotates is only in one place.
// It returns a sentence that says so. An error means that the predecessor still finds it. For any other file, Retire warns that
// the file should be deleted.
func (s Source) Retire(ctx context.Context, env environ.Vars, warnings io.Writer) (said string, err error) {
	switch {
	case s.Record.RefreshToken.Empty(), s.path == "" && !s.keyring:
		return "", nil
	case s.keyring:
		err = store.DeletePredecessorKeyring(ctx, s.Record)
		said = fmt.Sprintf("%s was deleted, so that the sign-in is only in one place", s)
	case !s.Retires(env): // we may not be able to delete it, for example on a USB stick
		terminal.Warn(warnings, "%s still holds the refresh token, and ccagent renews that from now on; delete the file", s)
		return "", nil
	default:
		var retired string
		retired, err = s.rename()
		said = fmt.Sprintf("%s was renamed to %s, so that the sign-in is only in one place", s, retired)
	}
	if err != nil {
		return "", &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: fmt.Sprintf("%s could not be hidden from the predecessor: %v", s, err),
			Hint:    "a sign-in that renews itself must be in one place only; make it possible to rename or delete that, and import again",
		}
	}
	return said, nil
}

// rename gives the predecessor's file a name that the predecessor does not look for. If another program has replaced the file
// meanwhile, that stays as it is.
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
		return "", errors.New("another program has replaced it meanwhile")
	}
	if err := f.Chmod(0o600); err != nil {
		return "", err
	}
	retired := path + ".imported"
	return retired, os.Rename(path, retired)
}
