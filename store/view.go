package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// View is a file that another program reads, which we keep fresh with the access token alone: no refresh token is in it. What
// somebody else makes of it is not fought over: [View.Write] tells it from what we wrote, by a digest kept in the state
// directory. Its methods may be called concurrently and from several processes.
type View struct {
	kind  Kind
	path  string
	watch []string
	sheet sheet
	mark  string // path of the digest
	copy  *Copy
}

// sheet is where a view is written.
type sheet interface {
	// look returns a digest of what is there, "" when nothing is.
	look(ctx context.Context) (there string, err error)
	// write takes the sheet's locks and hands do what is there and what would be; it writes if do has no objection. With over,
	// what is broken counts as nothing once a copy of it is kept.
	write(ctx context.Context, r Record, over *Copy, do func(there, next string) error) error
	// remove takes them too, and removes what is there of ours if do has no objection.
	remove(ctx context.Context, do func(there string) error) error
}

// ViewState is what became of a view since we last wrote it.
type ViewState int

const (
	ViewNone    ViewState = iota // nothing is there, and we have written nothing
	ViewOurs                     // it is as we wrote it
	ViewGone                     // somebody removed it
	ViewForeign                  // it is somebody else's: changed, or there before us
)

// View returns the view that stands in for Claude Code's own record, in the file or the Keychain item. Other keys there are
// left as they are, and Claude Code's write lock is taken. What is there if somebody else has written it can be read by
// [ClaudeCode.Load].
func (s *ClaudeCode) View(stateDir string) *View {
	v := newView(stateDir, KindClaudeCode, s.path(), s.Place().Watch, claudeSheet{s})
	v.copy = newCopy(stateDir, s.Place()) // of a broken view and of a broken record
	return v
}

// NewSDKView returns the view that is a profile of the vendor's SDKs in their configuration directory, ANTHROPIC_CONFIG_DIR
// or ~/.config/anthropic. The profile is made when it is first written.
func NewSDKView(stateDir, configDir, profile string) *View {
	s := sdkSheet{
		config:      filepath.Join(configDir, "configs", profile+".json"),
		credentials: filepath.Join(configDir, "credentials", profile+".json"),
	}
	v := newView(stateDir, "anthropic-sdk", s.credentials, []string{s.credentials}, nil)
	s.lock = v.mark + ".lock"
	v.sheet = s
	return v
}

func newView(stateDir string, kind Kind, path string, watch []string, s sheet) *View {
	key := spillKey(Place{Kind: "view " + kind, Location: path})
	return &View{kind: kind, path: path, watch: watch, sheet: s, mark: filepath.Join(stateDir, "views", key+".json"),
		copy: newCopy(stateDir, Place{Kind: "view " + kind, Location: path})}
}

// Place says where the view is.
func (v *View) Place() Place { return Place{Kind: v.kind, Location: v.path, Watch: v.watch} }

// Known reports whether the view was written, and not given up since.
func (v *View) Known() bool {
	m, err := readMark(v.mark)
	return err == nil && (m.Digest != "" || m.Next != "")
}

// Look says what became of the view.
func (v *View) Look(ctx context.Context) (ViewState, error) {
	m, err := readMark(v.mark)
	if err != nil {
		return ViewNone, err
	}
	there, err := v.sheet.look(ctx)
	if err != nil {
		return ViewNone, err
	}
	return m.judge(there), nil
}

// Write brings the view up to date with r. ErrConflict says that somebody has removed or changed it, or that what is there
// was never ours: nothing is written then.
func (v *View) Write(ctx context.Context, r Record) error {
	return v.put(ctx, r, nil, func(m mark, there string) bool {
		state := m.judge(there)
		return state != ViewGone && state != ViewForeign
	})
}

// Restore writes the view over whatever is there. Of what is broken a copy is kept, see [View.Copied].
func (v *View) Restore(ctx context.Context, r Record) error {
	return v.put(ctx, r, v.copy, func(mark, string) bool { return true })
}

// Copied is the file with what Restore has written over because it was broken, "" where nothing was.
func (v *View) Copied() string { return v.copy.Path() }

// Replace writes a Claude Code view over what [ClaudeCode.Load] found there, and over nothing else (ErrConflict).
func (v *View) Replace(ctx context.Context, r Record, found Version) error {
	return v.put(ctx, r, nil, func(_ mark, there string) bool { return there == digestOf(found) })
}

func (v *View) put(ctx context.Context, r Record, over *Copy, may func(m mark, there string) bool) error {
	if r.AccessToken.Empty() {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: "there is no access token to show in " + v.path}
	}
	r.RefreshToken, r.GrantExpiry = protocol.Secret{}, time.Time{}
	var m mark
	err := v.sheet.write(ctx, r, over, func(there, next string) error {
		var err error
		if m, err = readMark(v.mark); err != nil {
			return err
		}
		if there != next && !may(m, there) {
			return ErrConflict
		}
		// Before the view: who is killed between the two must not take his own work for somebody else's.
		m.Next = next
		if token := Digest(r.AccessToken); !slices.Contains(m.Tokens, token) {
			m.Tokens = append(m.Tokens, token)
			m.Tokens = m.Tokens[max(0, len(m.Tokens)-maxShown):]
		}
		return m.write(v.mark)
	})
	if err != nil {
		return err
	}
	m.Digest, m.Next = m.Next, ""
	return m.write(v.mark)
}

// Showed reports whether the view had this token in it lately: a program that rewrites the file from memory brings it back.
func (v *View) Showed(access protocol.Secret) bool {
	m, err := readMark(v.mark)
	return err == nil && slices.Contains(m.Tokens, Digest(access))
}

// Remove takes the view away if it is ours, and forgets it. What somebody else has made of it stays.
func (v *View) Remove(ctx context.Context) error {
	err := v.sheet.remove(ctx, func(there string) error {
		m, err := readMark(v.mark)
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

// Forget gives the view up as it is.
func (v *View) Forget() error {
	if err := os.Remove(v.mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return disk.Error("removing", v.mark, err)
	}
	return nil
}

// mark remembers what we wrote.
type mark struct {
	Version int      `json:"version"`
	Digest  string   `json:"digest"`           // "": nothing yet
	Next    string   `json:"next,omitempty"`   // under way
	Tokens  []string `json:"tokens,omitempty"` // digests of the last access tokens
}

// maxShown is how many of those are remembered.
const maxShown = 8

func (m mark) judge(there string) ViewState {
	written := m.Digest != "" || m.Next != ""
	switch {
	case there == "" && m.Digest == "": // Next may never have come about
		return ViewNone
	case there == "":
		return ViewGone
	case written && (there == m.Digest || there == m.Next):
		return ViewOurs
	}
	return ViewForeign
}

// readMark also answers when the mark can't be made sense of: then what is there is somebody else's, until it is restored.
func readMark(path string) (mark, error) {
	src, err := readFile(path)
	if errors.Is(err, protocol.ErrNotFound) {
		return mark{Version: 1}, nil
	}
	var m mark
	if errors.Is(err, protocol.ErrInvalid) || err == nil && (json.Unmarshal(src, &m) != nil || m.Version != 1) {
		return mark{Version: 1, Digest: "not known"}, nil
	}
	return m, err
}

func (m mark) write(path string) error {
	return file(path).write(context.Background(), splice.Encode(m), nil)
}

// claudeSheet is Claude Code's record. Its digest is of the record's own keys: Claude Code may change the others.
type claudeSheet struct{ store *ClaudeCode }

func digestOf(v Version) string {
	if v == (Version{}) {
		return ""
	}
	return hex.EncodeToString(v[:])
}

func (s claudeSheet) look(ctx context.Context) (string, error) {
	_, v, err := s.store.Load(ctx)
	if errors.Is(err, protocol.ErrNotFound) || errors.Is(err, protocol.ErrLoginRequired) {
		err = nil
	}
	return digestOf(v), err
}

func (s claudeSheet) write(ctx context.Context, r Record, over *Copy, do func(there, next string) error) error {
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
		return confirm(s.store, ctx, merged.version()) // what shows no refresh token is said of what is there
	})
}

func (s claudeSheet) remove(ctx context.Context, do func(there string) error) error {
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

// sdkSheet is a profile of the vendor's SDKs. They refuse links and files that others may read, and read a profile without a
// client id again for each request.
type sdkSheet struct{ config, credentials, lock string }

// sdkConfig is the profile that goes with our credentials.
const sdkConfig = `{"version":"1.0","authentication":{"type":"user_oauth"}}` + "\n"

func (s sdkSheet) look(context.Context) (string, error) {
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

func (s sdkSheet) write(ctx context.Context, r Record, _ *Copy, do func(there, next string) error) error {
	return s.locked(ctx, func() error {
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
		if there != next {
			if err := file(s.credentials).write(ctx, data, nil); err != nil {
				return err
			}
		}
		if _, err := os.Lstat(s.config); errors.Is(err, fs.ErrNotExist) {
			return file(s.config).write(ctx, []byte(sdkConfig), nil)
		}
		return nil
	})
}

// mayServe fails if the profile is there and is for something else: the SDK would renew what has a client id, and spend a
// refresh token that it does not find.
func (s sdkSheet) mayServe() error {
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

func (s sdkSheet) remove(ctx context.Context, do func(there string) error) error {
	return s.locked(ctx, func() error {
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

func (s sdkSheet) locked(ctx context.Context, do func() error) error {
	if err := disk.MakeFolder(filepath.Dir(s.lock)); err != nil {
		return err
	}
	l, err := lockFile(ctx, s.lock)
	if err != nil {
		return err
	}
	defer l.Release()
	return do()
}

// formatSDK writes credentials in the form of the vendor's SDKs. Theirs counts in seconds: a token is not to seem to live longer
// than it does.
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
