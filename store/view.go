package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// View is a file that another program reads. It holds the access token alone, which is brought up to date after each renewal, and
// never a refresh token. A view that somebody else has changed is left alone: a digest of what we wrote, in the state directory,
// shows the change. The methods of a View may be called concurrently and from several processes.
type View struct {
	kind    ViewKind
	path    string
	watch   []string
	file    viewFile
	profile string
	at      ViewPlace // zero: it is in the place of Claude Code's own record
	written string    // path of the file that says what we wrote
	copy    *Copy
	wrote   atomic.Bool
}

// ViewPlace is one view as a profile's settings name it. Paths are absolute.
type ViewPlace struct {
	Kind ViewKind `json:"kind"`
	// Dir is a Claude Code directory, or the SDKs' configuration directory. "" is the profile's own Claude Code directory, where a
	// person signs in and out.
	Dir  string `json:"dir,omitempty"`
	Path string `json:"path,omitempty"` // the file of kind token or env
	Name string `json:"name,omitempty"` // the variable of kind env
	// InPlace says that the file of kind token or env is never replaced, because it is mounted as a single file somewhere.
	InPlace bool `json:"in_place,omitempty"`
}

// Guards reports whether the view is in the place of Claude Code's own record of the profile.
func (p ViewPlace) Guards() bool { return p.Kind == ViewClaude && p.Dir == "" }

// Open returns the view of that profile, whose Claude Code directory is claudeDir. The kind must be a known one.
func (p ViewPlace) Open(stateDir, profile, claudeDir string) *View {
	var v *View
	switch p.Kind {
	case ViewToken:
		v = NewTokenView(stateDir, p.Path, p.InPlace)
	case ViewEnv:
		v = NewEnvView(stateDir, p.Path, p.Name, p.InPlace)
	case ViewSDK:
		v = NewSDKView(stateDir, p.Dir, profile)
	default:
		claude := NewClaudeCode(cmp.Or(p.Dir, claudeDir))
		v = claude.View(stateDir)
		v.file = claudeView{claude, p.Dir}
	}
	if !p.Guards() {
		v.profile, v.at = profile, p
	}
	return v
}

// FormerViews returns the views that were written for the profile and are not among its present ones. Somebody has taken them out
// of the settings. The view in the place of Claude Code's own record is never among them.
func FormerViews(stateDir, profile string, present []ViewPlace) []*View {
	var former []*View
	paths, _ := filepath.Glob(filepath.Join(stateDir, "views", "*.json"))
	for _, path := range paths {
		m, err := readWritten(path)
		if err != nil || m.At == nil || !strings.EqualFold(m.Profile, profile) {
			continue
		}
		v := m.At.Open(stateDir, m.Profile, "")
		if !slices.ContainsFunc(present, func(p ViewPlace) bool { return p.Open(stateDir, profile, "").written == v.written }) {
			former = append(former, v)
		}
	}
	return former
}

// ViewKind is the name of a kind of view, as config.toml has it.
type ViewKind string

const (
	ViewClaude ViewKind = "claude-code"   // Claude Code's file of its sign-in
	ViewSDK    ViewKind = "anthropic-sdk" // a profile of the vendor's SDKs
	ViewToken  ViewKind = "token"         // a file with the token alone
	ViewEnv    ViewKind = "env"           // a file with NAME=token
)

// ViewKinds are all kinds of view, in the order in which they are listed to a person.
var ViewKinds = []ViewKind{ViewToken, ViewEnv, ViewSDK, ViewClaude}

// viewFile is one form of a view, in its place.
type viewFile interface {
	// look returns a digest of what is there, "" when nothing is.
	look(ctx context.Context) (there string, err error)
	// write takes the locks of the file, calls do with digests of what is there and of what is to be written, and writes it
	// unless do fails. With over, a file that can't be read counts as a missing one once there is a copy of it.
	write(ctx context.Context, r Record, over *Copy, do func(there, next string) error) error
	// remove takes the locks too, calls do, and removes what we have written there unless do fails.
	remove(ctx context.Context, do func(there string) error) error
}

// ViewState is what has become of a view since we last wrote it.
type ViewState int

const (
	ViewNone    ViewState = iota // nothing is there, and we have written nothing
	ViewOurs                     // it is as we wrote it
	ViewGone                     // somebody removed it
	ViewForeign                  // somebody else has changed it, or it was there before us
)

// View returns the view in the place of Claude Code's own record, be that a file or an item of the Keychain. Other keys there
// stay as they are, and Claude Code's write lock is taken. [ClaudeCode.Load] reads what is there, whoever has written it.
func (s *ClaudeCode) View(stateDir string) *View {
	v := newView(stateDir, ViewClaude, s.path(), s.Place().Watch, claudeView{s, ""})
	v.copy = newCopy(stateDir, s.Place()) // a broken view and a broken record are the same file
	return v
}

// NewSDKView returns the view that is a profile of the vendor's SDKs in their configuration directory, ANTHROPIC_CONFIG_DIR
// or ~/.config/anthropic. The profile is made when it is first written.
func NewSDKView(stateDir, configDir, profile string) *View {
	s := sdkView{
		config:      filepath.Join(configDir, "configs", profile+".json"),
		credentials: filepath.Join(configDir, "credentials", profile+".json"),
	}
	v := newView(stateDir, ViewSDK, s.credentials, []string{s.credentials}, nil)
	s.lock = v.written + ".lock"
	v.file = s
	return v
}

func newView(stateDir string, kind ViewKind, path string, watch []string, f viewFile) *View {
	at := Place{Kind: Kind("view " + kind), Location: path}
	return &View{kind: kind, path: path, watch: watch, file: f, copy: newCopy(stateDir, at),
		written: filepath.Join(stateDir, "views", placeKey(at)+".json")}
}

// Place says where the view is.
func (v *View) Place() Place { return Place{Kind: Kind(v.kind), Location: v.path, Watch: v.watch} }

// Known reports whether we have written the view, and have not forgotten it since.
func (v *View) Known() bool {
	m, err := readWritten(v.written)
	return err == nil && (m.Digest != "" || m.Next != "")
}

// Look says what has become of the view.
func (v *View) Look(ctx context.Context) (ViewState, error) {
	m, err := readWritten(v.written)
	if err != nil {
		return ViewNone, err
	}
	there, err := v.file.look(ctx)
	if err != nil {
		return ViewNone, err
	}
	return m.judge(there), nil
}

// Write writes r's access token into the view. It writes nothing and returns ErrConflict if somebody has removed or changed the
// view, or if what is there was never ours.
func (v *View) Write(ctx context.Context, r Record) error {
	return v.put(ctx, r, nil, func(m written, there string) bool {
		state := m.judge(there)
		return state != ViewGone && state != ViewForeign
	})
}

// WriteAgain is Write, but it also writes a view that somebody has removed.
func (v *View) WriteAgain(ctx context.Context, r Record) error {
	return v.put(ctx, r, nil, func(m written, there string) bool { return m.judge(there) != ViewForeign })
}

// Restore writes the view over whatever is there. A file that can't be read is copied first, and so is what somebody else has
// written into a file with a token alone, see [View.Copied]. Another program's sign-in is left as it is (ErrInvalid).
func (v *View) Restore(ctx context.Context, r Record) error {
	if plain, ok := v.file.(plainView); ok {
		if state, err := v.Look(ctx); err == nil && state == ViewForeign {
			if err := plain.keep(v.copy); err != nil {
				return err
			}
		}
	}
	return v.put(ctx, r, v.copy, func(written, string) bool { return true })
}

// Copied is the copy that Restore has made of a file that it could not read, "" if it has made none.
func (v *View) Copied() string { return v.copy.Path() }

// Replace writes a view of Claude Code's over the record that has the version found. If something else is there, it writes
// nothing and returns ErrConflict.
func (v *View) Replace(ctx context.Context, r Record, found Version) error {
	return v.put(ctx, r, nil, func(_ written, there string) bool { return there == digestOf(found) })
}

func (v *View) put(ctx context.Context, r Record, over *Copy, may func(m written, there string) bool) error {
	if r.AccessToken.Empty() {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: "there is no access token to show in " + v.path}
	}
	r.RefreshToken, r.GrantExpiry = protocol.Secret{}, time.Time{}
	var m written
	err := v.file.write(ctx, r, over, func(there, next string) error {
		var err error
		if m, err = readWritten(v.written); err != nil {
			return err
		}
		if there != next && !may(m, there) {
			return ErrConflict
		}
		// This comes before the view: whoever is killed between the two must not take its own work for somebody
		// else's.
		if there != next {
			v.wrote.Store(true)
		}
		m.Next = next
		if m.Profile = v.profile; v.at.Kind != "" {
			m.At = &v.at
		}
		if token := Digest(r.AccessToken); !slices.Contains(m.Tokens, token) {
			m.Tokens = append(m.Tokens, token)
			m.Tokens = m.Tokens[max(0, len(m.Tokens)-maxShown):]
		}
		return m.write(v.written)
	})
	if err != nil {
		return err
	}
	m.Digest, m.Next = m.Next, ""
	return m.write(v.written)
}

// Wrote reports whether this View has written something else than was there.
func (v *View) Wrote() bool { return v.wrote.Load() }

// Showed reports whether this access token was in the view lately. A program that writes the file from its memory brings such
// a token back.
func (v *View) Showed(access protocol.Secret) bool {
	m, err := readWritten(v.written)
	return err == nil && slices.Contains(m.Tokens, Digest(access))
}

// Remove removes the view if it is as we wrote it, and forgets it. What somebody else has written there stays.
func (v *View) Remove(ctx context.Context) error {
	err := v.file.remove(ctx, func(there string) error {
		m, err := readWritten(v.written)
		if err == nil && m.judge(there) != ViewOurs {
			err = ErrConflict
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, protocol.ErrNotFound) {
		return err
	}
	if err := v.copy.clear(); err != nil {
		return err
	}
	return v.Forget()
}

// Forget leaves the view as it is, and no longer knows that it was ours.
func (v *View) Forget() error {
	if err := os.Remove(v.written); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return disk.Error("removing", v.written, err)
	}
	return nil
}

// written is what we remember of a view, to tell it from what somebody else has made of it.
type written struct {
	Version int      `json:"version"`
	Digest  string   `json:"digest"`           // of what we wrote last; "": nothing yet
	Next    string   `json:"next,omitempty"`   // of what we began to write
	Tokens  []string `json:"tokens,omitempty"` // digests of the last access tokens in it

	Profile string     `json:"profile,omitempty"` // whose view it is
	At      *ViewPlace `json:"at,omitempty"`      // where it is
}

// maxShown is how many of these tokens are remembered.
const maxShown = 8

func (m written) judge(there string) ViewState {
	known := m.Digest != "" || m.Next != ""
	switch {
	case there == "" && m.Digest == "": // what we began to write may never have been written
		return ViewNone
	case there == "":
		return ViewGone
	case known && (there == m.Digest || there == m.Next):
		return ViewOurs
	}
	return ViewForeign
}

// readWritten reads what we remember of a view. If that makes no sense, its digest is one that no file has: then the view
// counts as changed by somebody else until it is restored.
func readWritten(path string) (written, error) {
	src, err := readFile(path)
	if errors.Is(err, protocol.ErrNotFound) {
		return written{Version: 1}, nil
	}
	var m written
	if errors.Is(err, protocol.ErrInvalid) || err == nil && (json.Unmarshal(src, &m) != nil || m.Version != 1) {
		return written{Version: 1, Digest: "not known"}, nil
	}
	return m, err
}

func (m written) write(path string) error {
	return file(path).write(context.Background(), splice.Encode(m), nil)
}

// claudeView is the view in the place of Claude Code's record. Its digest is of the record's own keys: Claude Code may change
// the others.
type claudeView struct {
	store  *ClaudeCode
	folder string // made when it is missing; "": none is, because a home may not be mounted
}

func digestOf(v Version) string {
	if v == (Version{}) {
		return ""
	}
	return hex.EncodeToString(v[:])
}

func (s claudeView) look(ctx context.Context) (string, error) {
	_, v, err := s.store.Load(ctx)
	if errors.Is(err, protocol.ErrNotFound) || errors.Is(err, protocol.ErrLoginRequired) {
		err = nil
	}
	return digestOf(v), err
}

func (s claudeView) write(ctx context.Context, r Record, over *Copy, do func(there, next string) error) error {
	if s.folder != "" {
		if err := disk.MakeFolder(s.folder); err != nil {
			return err
		}
	}
	return s.store.change(ctx, over, func(at spot, _ *disk.Lock, src []byte, stored Version, check func() error) error {
		data, err := spliceClaude(s.store.path(), src, r)
		if err != nil {
			return err
		}
		merged, err := readClaude(s.store.path(), data)
		if err != nil {
			return err
		}
		if err := do(digestOf(stored), digestOf(merged.version())); err != nil || merged.version() == stored {
			return err
		}
		if err := at.write(ctx, data, check); err != nil {
			return err
		}
		return confirm(s.store, ctx, merged.version())
	})
}

func (s claudeView) remove(ctx context.Context, do func(there string) error) error {
	return s.store.change(ctx, nil, func(at spot, _ *disk.Lock, src []byte, stored Version, check func() error) error {
		if err := do(digestOf(stored)); err != nil || src == nil {
			return err
		}
		data, left, err := splice.Remove(src, claudeKey)
		switch {
		case err != nil:
			return invalid(s.store.path(), "is not valid JSON")
		case left > 0:
			return at.write(ctx, data, check)
		}
		return at.remove(ctx, check)
	})
}

// sdkView is the view that is a profile of the vendor's SDKs. They refuse links and files that others may read. They read a
// profile without a client id again for each request.
type sdkView struct{ config, credentials, lock string }

// sdkConfig is the configuration of a profile whose credentials we write.
const sdkConfig = `{"version":"1.0","authentication":{"type":"user_oauth"}}` + "\n"

func (s sdkView) look(context.Context) (string, error) {
	if info, err := os.Lstat(s.credentials); err == nil && !info.Mode().IsRegular() {
		return "not a file", nil
	}
	src, err := readFile(s.credentials)
	if errors.Is(err, protocol.ErrNotFound) {
		return "", nil
	}
	sum := sha256.Sum256(src)
	return hex.EncodeToString(sum[:]), err
}

func (s sdkView) write(ctx context.Context, r Record, _ *Copy, do func(there, next string) error) error {
	return whileLocked(ctx, s.lock, func() error {
		if err := s.mayServe(); err != nil {
			return err
		}
		data := formatSDK(r)
		sum := sha256.Sum256(data)
		next := hex.EncodeToString(sum[:])
		there, err := s.look(ctx)
		if err != nil {
			return err
		}
		if err := do(there, next); err != nil {
			return err
		}
		if there == next {
			err = closed(s.credentials)
		} else {
			err = file(s.credentials).write(ctx, data, nil)
		}
		if err != nil {
			return err
		}
		if _, err := os.Lstat(s.config); errors.Is(err, fs.ErrNotExist) {
			return file(s.config).write(ctx, []byte(sdkConfig), nil)
		}
		return nil
	})
}

// mayServe fails if the profile is there already and means another way to sign in. With a client id, for example, the SDK would
// renew the token itself, for which the view has no refresh token.
func (s sdkView) mayServe() error {
	src, err := readFile(s.config)
	if errors.Is(err, protocol.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var kind, client, elsewhere string
	o, err := readObject(s.config, src)
	if err == nil {
		if auth, authErr := readObject(s.config, o.values["authentication"]); authErr == nil {
			auth.text("type", &kind)
			auth.text("client_id", &client)
			auth.text("credentials_path", &elsewhere)
		}
	}
	if kind != "user_oauth" || client != "" || elsewhere != "" && elsewhere != s.credentials {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: s.config + " is a profile for another way to sign in",
			Hint:    "give the ccagent profile a name of its own, or remove that one",
		}
	}
	return nil
}

func (s sdkView) remove(ctx context.Context, do func(there string) error) error {
	return whileLocked(ctx, s.lock, func() error {
		there, err := s.look(ctx)
		if err != nil {
			return err
		}
		if err := do(there); err != nil {
			return err
		}
		if src, err := readFile(s.config); err == nil && string(src) == sdkConfig {
			if err := removeFile(s.config); err != nil {
				return err
			}
		}
		return removeFile(s.credentials)
	})
}

// formatSDK returns credentials in the form of the vendor's SDKs. It counts in whole seconds, rounded down: a token must not seem
// to live longer than it does.
func formatSDK(r Record) []byte {
	data, err := setMembers([]byte("{}"), []member{
		{"version", splice.Encode("1.0")},
		{"type", splice.Encode("oauth_token")},
		{"access_token", splice.Encode(r.AccessToken.Reveal())},
	})
	if err == nil && !r.Expiry.IsZero() {
		data, err = setMembers(data, []member{{"expires_at", splice.Encode(r.Expiry.Unix())}})
	}
	if err != nil {
		return nil
	}
	return append(data, '\n')
}
