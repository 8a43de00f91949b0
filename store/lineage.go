package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Lineage says which sign-in a record is of. It holds digests and names, and no secret, so it may lie beside a token in memory
// or in a file of ours. The zero Lineage is of no sign-in.
type Lineage struct {
	SignIn  string // id of the sign-in; where the record has none yet, the one that our first renewal will give it
	Refresh string // digest of the refresh token
	Access  string // digest of the access token
	Account string // id of the account at the provider; "": not known
}

// Lineage is r's.
func (r Record) Lineage() Lineage {
	return Lineage{
		SignIn:  cmp.Or(r.SignIn, SignInOf(r.RefreshToken)),
		Refresh: Digest(r.RefreshToken),
		Access:  Digest(r.AccessToken),
		Account: r.Identity.Account,
	}
}

// Same reports whether two records are known to be of one sign-in: they share a token or the id of the sign-in. Two accounts are
// never one. What can't be told counts as another: to take one person's sign-in for another's is worse than to look twice.
func (l Lineage) Same(other Lineage) bool {
	shared := func(a, b string) bool { return a != "" && a == b }
	switch {
	case shared(l.Refresh, other.Refresh), shared(l.Access, other.Access):
		return true
	case l.Account != "" && other.Account != "" && l.Account != other.Account:
		return false
	}
	return shared(l.SignIn, other.SignIn)
}

// String is l in one line, for [ParseLineage].
func (l Lineage) String() string {
	if l == (Lineage{}) {
		return ""
	}
	return strings.Join([]string{l.SignIn, l.Refresh, l.Access, l.Account}, " ")
}

// ParseLineage reads what [Lineage.String] wrote. Anything else is the zero Lineage, which is the same as no other.
func ParseLineage(s string) Lineage {
	parts := strings.SplitN(s, " ", 4)
	if len(parts) != 4 {
		return Lineage{}
	}
	return Lineage{SignIn: parts[0], Refresh: parts[1], Access: parts[2], Account: parts[3]}
}

// Digest names a token without holding it: 32 hexadecimal digits, "" for none.
func Digest(token protocol.Secret) string {
	if token.Empty() {
		return ""
	}
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:16])
}

// SignInOf is the id that a sign-in gets which another program has made, when we first renew it, from the refresh token that is
// spent by that: so it can be told which record without an id it was. It is empty without a token.
func SignInOf(refresh protocol.Secret) string { return signInOf(Digest(refresh)) }

func signInOf(digest string) string { return digest[:min(len(digest), 16)] }

// HoldsAnother reports whether st is known to hold something else than the sign-in l: another one, nothing, or what nobody can
// read. A token of l must not be served then. A store that can't be asked, or whose folder is gone, says nothing. An earlier
// record of l, which a backup may have brought back, is told by the history that is kept in stateDir.
func HoldsAnother(ctx context.Context, stateDir string, st Store, l Lineage) bool {
	r, _, err := st.Load(ctx)
	switch {
	case err == nil:
	case errors.Is(err, protocol.ErrLoginRequired):
		if r.IsStub() { // whose it was is for those to judge who may put it back
			return false
		}
	case errors.Is(err, protocol.ErrNotFound):
		return FolderThere(st.Place()) == nil
	default:
		return errors.Is(err, protocol.ErrInvalid)
	}
	if l.Same(r.Lineage()) {
		return false
	}
	if stateDir == "" {
		return true
	}
	newest, spent := NewHistory(stateDir, st).Replaces(ctx, r.RefreshToken)
	return !spent || !l.Same(newest.Lineage)
}
