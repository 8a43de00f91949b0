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

// Lineage says to which sign-in a record belongs. It holds digests and names and no secret, so it may stand beside a token in
// memory or in a file of ours. The zero Lineage belongs to no sign-in.
type Lineage struct {
	SignIn  string // id of the sign-in; if the record has none yet, the one that our first renewal will give it
	Refresh string // digest of the refresh token
	Access  string // digest of the access token
	Account string // id of the account at the provider; "" if it is not known
}

// Lineage returns the lineage of r.
func (r Record) Lineage() Lineage {
	return Lineage{
		SignIn:  cmp.Or(r.SignIn, SignInOf(r.RefreshToken)),
		Refresh: Digest(r.RefreshToken),
		Access:  Digest(r.AccessToken),
		Account: r.Identity.Account,
	}
}

// Same reports whether two records are known to be of one sign-in: they share a token or the id of the sign-in. Two accounts
// never share a sign-in. If nothing shows that the two are the same, they count as different, because it would be worse to serve
// one person's sign-in to another.
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

// String writes l in one line, for [ParseLineage].
func (l Lineage) String() string {
	if l == (Lineage{}) {
		return ""
	}
	return strings.Join([]string{l.SignIn, l.Refresh, l.Access, l.Account}, " ")
}

// ParseLineage reads what [Lineage.String] wrote. Anything else gives the zero Lineage, which is the same as no other.
func ParseLineage(s string) Lineage {
	parts := strings.SplitN(s, " ", 4)
	if len(parts) != 4 {
		return Lineage{}
	}
	return Lineage{SignIn: parts[0], Refresh: parts[1], Access: parts[2], Account: parts[3]}
}

// Digest is a name for a token that does not tell the token: 32 hexadecimal digits, "" for an empty token.
func Digest(token protocol.Secret) string {
	if token.Empty() {
		return ""
	}
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:16])
}

// SignInOf is the id that we give to a sign-in of another program when we first renew it. It is made of the refresh token that
// this renewal spends, so that a record without an id can be told to be of that sign-in. It is "" without a token.
func SignInOf(refresh protocol.Secret) string { return signInOf(Digest(refresh)) }

func signInOf(digest string) string { return digest[:min(len(digest), 16)] }

// HoldsAnother reports whether st is known to hold something else than the sign-in l: another sign-in, nothing, or what nobody
// can read. A token of l must not be served then. If the store can't be asked, or its folder is gone, nothing is known. An
// earlier record of l, which a backup may have brought back, is recognised by the history, which is below stateDir.
func HoldsAnother(ctx context.Context, stateDir string, st Store, l Lineage) bool {
	r, _, err := st.Load(ctx)
	switch {
	case errors.Is(err, protocol.ErrNotFound):
		return FolderThere(st.Place()) == nil
	case err != nil && !errors.Is(err, protocol.ErrLoginRequired):
		return errors.Is(err, protocol.ErrInvalid)
	case err != nil && r.IsStub(): // a renewal finds out whose it was, and may put the record back
		return false
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
