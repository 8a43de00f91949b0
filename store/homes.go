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

// Homes remembers, by digests, in which place each refresh token of this user is, and which refresh tokens were spent there. A
// refresh token is good once, so it has one home. If two profiles held the same one, the second to renew would end the sign-in
// for both. The methods of a Homes may be called concurrently and from several processes.
type Homes struct{ dir string }

// Home is the place of a profile's record. It holds no secret.
type Home struct {
	Version   int      `json:"version"`
	Profile   string   `json:"profile"`
	Kind      Kind     `json:"kind"`
	Location  string   `json:"location"`
	ConfigDir string   `json:"config_dir,omitempty"` // of kind claude-code
	SignIn    string   `json:"sign_in,omitempty"`
	Account   string   `json:"account,omitempty"`  // who is signed in, where that is known
	Digest    string   `json:"digest"`             // of the refresh token that is there
	Spent     []string `json:"spent,omitempty"`    // digests of those that were spent there
	Reusable  bool     `json:"reusable,omitempty"` // a renewal has not spent the refresh token: a copy of it does no harm
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
		h.SignIn = ""                                   // our note may be about the sign-in before, which Claude Code has replaced
		if file, _, err := claude.paths(); err == nil { // the same home by every name of it
			h.Location = file
		}
	}
	return h
}

// SameSignIn reports whether two records hold the same refresh token.
func SameSignIn(a, b Record) bool {
	return !a.RefreshToken.Empty() && a.RefreshToken.Reveal() == b.RefreshToken.Reveal()
}

// Has reports whether the refresh token of r is the one that is there, or one that was spent there.
func (me Home) Has(r Record) (here, spent bool) {
	digest := Digest(r.RefreshToken)
	return digest != "" && me.Digest == digest, digest != "" && slices.Contains(me.Spent, digest)
}

// same reports whether two homes are one: they have the same file, or the same folder, whose file may be a link that leads
// elsewhere now, or they are of one profile whose record has moved.
func (me Home) same(other Home) bool {
	return me.Kind == other.Kind && (me.Location == other.Location || me.ConfigDir != "" && me.ConfigDir == other.ConfigDir) ||
		strings.EqualFold(me.Profile, other.Profile) && !(me.Kind.Traits().Shared && other.Kind.Traits().Shared)
}

// Other returns another home that has the refresh token of r or has spent it, nil if there is none. What is remembered may be out
// of date, so holds is asked whether a home that should have the refresh token has it.
func (h *Homes) Other(me Home, r Record, holds func(Home) bool) *Home {
	if r.RefreshToken.Empty() {
		return nil
	}
	return me.Other(h.All(), r, holds)
}

// Other is [Homes.Other] among the homes all, which All has returned.
func (me Home) Other(all []Home, r Record, holds func(Home) bool) *Home {
	reusable := Reusable(all, r)
	for _, other := range all {
		if me.same(other) {
			continue
		}
		here, spent := other.Has(r)
		otherAccount := me.Account != "" && other.Account != "" && me.Account != other.Account
		descends := me.SignIn != "" && me.SignIn == other.SignIn && !otherAccount
		if spent || !reusable && (here || descends) && holds(other) {
			return &other
		}
	}
	return nil
}

// Reusable reports whether a renewal in one of these homes has not spent the refresh token of r, because its provider does not
// rotate.
func Reusable(all []Home, r Record) bool {
	digest := Digest(r.RefreshToken)
	return digest != "" && slices.ContainsFunc(all, func(h Home) bool { return h.Reusable && h.Digest == digest })
}

// Spent reports whether the refresh token of r was spent in the home me itself. It goes back further than a history.
func (h *Homes) Spent(me Home, r Record) bool {
	return slices.ContainsFunc(h.All(), func(other Home) bool {
		_, spent := other.Has(r)
		return spent && me.same(other)
	})
}

// Claim remembers that the record r is in the home me. If another home has its refresh token, it returns that instead, see
// [Homes.Other]. If the refresh token was spent in the same home, r is an old copy that came back, and Claim changes nothing. A
// record whose home can't be written down is used all the same.
func (h *Homes) Claim(ctx context.Context, me Home, r Record, holds func(Home) bool) *Home {
	if r.RefreshToken.Empty() {
		return nil
	}
	// A reusable refresh token may be in another home, too, which may have spent it since the provider began to rotate.
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

// Renewed remembers that the provider has answered the refresh token of old with the record that is in the home me.
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

// write writes me down, in place of those of all that are the same home.
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

// Leave forgets the homes of a profile that is removed or whose record is deleted.
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

// homesWait bounds the wait for another job that writes a home down.
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

// All returns the homes that can be read.
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
