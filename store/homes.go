package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// Homes remembers in which place each refresh token of this user rests, and which ones were spent from there, by their digests.
// A refresh token is good once, so it has one home: of two profiles that hold the same one, the second to renew would end the
// sign-in for both. Its methods may be called concurrently and from several processes.
type Homes struct{ dir string }

// Home is where a profile's record rests. It holds no secret.
type Home struct {
	Version   int      `json:"version"`
	Profile   string   `json:"profile"`
	Kind      Kind     `json:"kind"`
	Location  string   `json:"location"`
	ConfigDir string   `json:"config_dir,omitempty"` // of kind claude-code
	SignIn    string   `json:"sign_in,omitempty"`
	Account   string   `json:"account,omitempty"`  // who is signed in, where that is known
	Digest    string   `json:"digest"`             // of the refresh token that is there
	Spent     []string `json:"spent,omitempty"`    // of those that were renewed there
	Reusable  bool     `json:"reusable,omitempty"` // a renewal has left the refresh token good: a copy of it does no harm
}

// maxSpentHere is how many spent refresh tokens a home remembers: a year of renewals every 8 hours.
const maxSpentHere = 1100

// NewHomes returns what is remembered below the state directory.
func NewHomes(stateDir string) *Homes { return &Homes{filepath.Join(stateDir, "homes")} }

// HomeOf describes the place of a profile's record.
func HomeOf(st Store, profile string, r Record) Home {
	at := st.Place()
	h := Home{Version: 1, Profile: profile, Kind: at.Kind, Location: at.Location, SignIn: r.SignIn,
		Account: cmp.Or(r.Identity.Email, r.Identity.Account), Digest: Digest(r.RefreshToken)}
	if claude, ok := st.(*ClaudeCode); ok {
		h.ConfigDir, h.Location = claude.dir, claude.path()
		h.SignIn = ""                                   // what Claude Code has put in the place of a sign-in of ours has the id of that
		if file, _, err := claude.paths(); err == nil { // one home by whatever name
			h.Location = file
		}
	}
	return h
}

// SameSignIn reports whether two records hold the same refresh token.
func SameSignIn(a, b Record) bool {
	return !a.RefreshToken.Empty() && a.RefreshToken.Reveal() == b.RefreshToken.Reveal()
}

// Has reports whether the refresh token of r is the one at home, or one that was spent from there.
func (me Home) Has(r Record) (here, spent bool) {
	digest := Digest(r.RefreshToken)
	return digest != "" && me.Digest == digest, digest != "" && slices.Contains(me.Spent, digest)
}

// same reports whether two homes are one place, by its file or by the folder whose file is a link that leads elsewhere now, or
// one profile's that has moved.
func (me Home) same(other Home) bool {
	return me.Kind == other.Kind && (me.Location == other.Location || me.ConfigDir != "" && me.ConfigDir == other.ConfigDir) ||
		strings.EqualFold(me.Profile, other.Profile) && !(me.Kind.Traits().Shared && other.Kind.Traits().Shared)
}

// Other returns another home that has the refresh token of r, or has spent it, and nil where there is none. What is remembered
// may be out of date, so holds is asked whether a home that should have it does.
func (h *Homes) Other(me Home, r Record, holds func(Home) bool) *Home {
	if r.RefreshToken.Empty() {
		return nil
	}
	return me.Other(h.All(), r, holds)
}

// Other is [Homes.Other] among the homes that All has returned.
func (me Home) Other(all []Home, r Record, holds func(Home) bool) *Home {
	reusable := Reusable(all, r)
	for _, other := range all {
		if me.same(other) {
			continue
		}
		here, spent := other.Has(r)
		refusedObjects := me.Account != "" && other.Account != "" && me.Account != other.Account
		descends := me.SignIn != "" && me.SignIn == other.SignIn && !refusedObjects
		if spent || !reusable && (here || descends) && holds(other) {
			return &other
		}
	}
	return nil
}

// Reusable reports whether a renewal in one of these homes has left the refresh token of r good: its provider does not rotate.
func Reusable(all []Home, r Record) bool {
	digest := Digest(r.RefreshToken)
	return digest != "" && slices.ContainsFunc(all, func(h Home) bool { return h.Reusable && h.Digest == digest })
}

// Spent reports whether the refresh token of r was spent in the home of me itself. It goes back further than a history.
func (h *Homes) Spent(me Home, r Record) bool {
	return slices.ContainsFunc(h.All(), func(other Home) bool {
		_, spent := other.Has(r)
		return spent && me.same(other)
	})
}

// Claim remembers that the record of me rests there, unless another home has its refresh token: that is returned then, see
// [Homes.Other]. One that was spent there itself is an old copy that came back, and changes nothing. To fail at remembering is
// no reason not to use a record.
func (h *Homes) Claim(ctx context.Context, me Home, r Record, holds func(Home) bool) *Home {
	if r.RefreshToken.Empty() {
		return nil
	}
	// What is reusable others may have too, and may have spent since the provider began to rotate.
	known, err := readHome(h.path(me))
	if err == nil && known.Digest == me.Digest && known.Profile == me.Profile && !known.Reusable {
		return nil
	}
	if l, err := h.lock(ctx); err == nil {
		defer l.Release()
	}
	all := h.All()
	if other := me.Other(all, r, holds); other != nil {
		return other
	}
	if !h.Spent(me, r) {
		h.write(me, all)
	}
	return nil
}

// Renewed remembers that the provider has answered the refresh token of old with the record of me, which rests there.
func (h *Homes) Renewed(ctx context.Context, me Home, old Record) {
	if me.Digest == "" {
		return
	}
	before := Digest(old.RefreshToken)
	me.Reusable = before == me.Digest
	if known, err := readHome(h.path(me)); err == nil && me.Reusable && known.Reusable && known.Digest == me.Digest {
		return
	}
	if l, err := h.lock(ctx); err == nil {
		defer l.Release()
	}
	if !me.Reusable {
		me.Spent = appendDigest(nil, before)
	}
	h.write(me, h.All())
}

// write puts me in the place of what all say of the same home.
func (h *Homes) write(me Home, all []Home) {
	var spent []string
	for _, other := range all {
		if !me.same(other) {
			continue
		}
		spent = append(spent, other.Spent...)
		if other.Digest == me.Digest {
			me.Reusable = me.Reusable || other.Reusable
		}
		if h.path(other) != h.path(me) {
			os.Remove(h.path(other))
		}
	}
	spent = append(spent, me.Spent...)
	spent = slices.DeleteFunc(spent, func(digest string) bool { return digest == me.Digest })
	me.Spent = spent[max(0, len(spent)-maxSpentHere):]
	if disk.MakeFolder(h.dir) == nil {
		writeFile(h.path(me), append(splice.Encode(me), '\n'), disk.Always)
	}
}

// Leave forgets the homes of a profile that is removed, or whose record is deleted.
func (h *Homes) Leave(profile string) error {
	for _, home := range h.All() {
		if !strings.EqualFold(home.Profile, profile) {
			continue
		}
		if err := os.Remove(h.path(home)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return disk.Error("removing", h.path(home), err)
		}
	}
	return nil
}

// homesWait bounds the wait for another job that looks something up.
const homesWait = 5 * time.Second

func (h *Homes) lock(ctx context.Context) (*disk.Lock, error) {
	if err := disk.MakeFolder(h.dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, homesWait)
	defer cancel()
	return lockFile(ctx, filepath.Join(h.dir, ".lock"))
}

func (h *Homes) path(me Home) string {
	return filepath.Join(h.dir, placeKey(Place{Kind: me.Kind, Location: me.Location})+".json")
}

// All are the homes that can be read.
func (h *Homes) All() []Home {
	entries, _ := os.ReadDir(h.dir)
	var all []Home
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		if home, err := readHome(filepath.Join(h.dir, e.Name())); err == nil {
			all = append(all, home)
		}
	}
	return all
}

func readHome(path string) (Home, error) {
	var home Home
	src, err := readFile(path)
	if err == nil && (json.Unmarshal(src, &home) != nil || home.Version != 1) {
		err = &protocol.Error{Code: protocol.CodeInvalid, Message: path + " can't be read"}
	}
	return home, err
}
