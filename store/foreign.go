package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/keyring"
)

// Sign-ins of other programs, which can be imported.

// The item of the Python predecessor in the keyring.
const (
	predecessorService = "claude-code-proxy"
	predecessorAccount = "default"
)

// ReadPredecessorKeyring reads the sign-in that the Python predecessor keeps in the system's keyring, in the format of
// [ReadClaude]. Besides the errors of that, they are ErrNotFound, ErrLocked and ErrStorage.
func ReadPredecessorKeyring(ctx context.Context) (Record, error) {
	return readPredecessor(ctx, keyring.System{})
}

func readPredecessor(ctx context.Context, sys system) (Record, error) {
	if err := sys.Ready(ctx); err != nil {
		return Record{}, err
	}
	const name = "the keyring's item " + predecessorService + " " + predecessorAccount
	src, err := sys.Get(ctx, predecessorService, predecessorAccount)
	if errors.Is(err, protocol.ErrNotFound) {
		return Record{}, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: "there is no item " + predecessorService + " " + predecessorAccount + " in the keyring",
		}
	}
	if err != nil {
		return Record{}, err
	}
	return readClaude(name, []byte(src))
}

// DeletePredecessorKeyring removes that sign-in, once it is stored elsewhere. ErrConflict says that another one than r is there.
func DeletePredecessorKeyring(ctx context.Context, r Record) error {
	return deletePredecessor(ctx, keyring.System{}, r)
}

func deletePredecessor(ctx context.Context, sys system, r Record) error {
	stored, err := readPredecessor(ctx, sys)
	if err != nil {
		return err
	}
	if !sameTokens(stored, r) {
		return ErrConflict
	}
	return sys.Delete(ctx, predecessorService, predecessorAccount)
}

// ReadSDK reads a record from credentials/<profile>.json of the vendor's SDKs. It fails with ErrInvalid, and with
// ErrLoginRequired if there is no token in it.
func ReadSDK(r io.Reader) (Record, error) {
	src, err := readInput(r)
	if err != nil {
		return Record{}, err
	}
	return readSDK("the input", src)
}

// SDKConfig is what configs/<profile>.json of the vendor's SDKs says of a sign-in, which is in another file.
type SDKConfig struct {
	Credentials string // that file
	ClientID    string // the client that the sign-in was made for, which alone can renew it; "": the SDKs don't renew it
}

// ReadSDKConfig reads the file at path. ErrNotFound says that it names no way to sign in, and ErrInvalid that it names another
// way than a token of OAuth.
func ReadSDKConfig(path string) (SDKConfig, error) {
	src, err := readFile(path)
	if err != nil {
		return SDKConfig{}, err
	}
	o, err := readObject(path, src)
	if err != nil || !o.has("authentication") {
		return SDKConfig{}, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: path + " configures no profile of the vendor's SDKs",
		}
	}
	auth, err := readObject(path, o.values["authentication"])
	if err != nil {
		return SDKConfig{}, err
	}
	c := SDKConfig{Credentials: filepath.Join("credentials", filepath.Base(path))}
	var kind string
	auth.text("type", &kind)
	auth.text("client_id", &c.ClientID)
	auth.text("credentials_path", &c.Credentials)
	switch {
	case auth.err != nil:
		return SDKConfig{}, auth.err
	case kind != "user_oauth":
		return SDKConfig{}, &protocol.Error{
			Code:    protocol.CodeInvalid,
			Message: path + " configures another way to sign in than user_oauth",
			Hint:    "it holds no sign-in: see ccagent help login for how ccagent signs in",
		}
	}
	if !filepath.IsAbs(c.Credentials) {
		c.Credentials = filepath.Join(filepath.Dir(filepath.Dir(path)), c.Credentials)
	}
	return c, nil
}

func readInput(r io.Reader) ([]byte, error) {
	src, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeStorage, Message: "reading the credentials: " + err.Error()}
	}
	if len(src) > MaxFile {
		return nil, invalid("the input", "is larger than 4 MiB")
	}
	return src, nil
}

func readSDK(name string, src []byte) (Record, error) {
	if len(bytes.TrimSpace(src)) == 0 {
		return Record{}, invalid(name, "is empty")
	}
	o, err := readStrict(name, src)
	if err != nil {
		return Record{}, err
	}
	if !o.isSDK() {
		return Record{}, cmp.Or(o.known(), invalid(name, `has no "type" "oauth_token"`))
	}
	if err := o.marked(); err != nil {
		return Record{}, err
	}
	var scope string
	r := Record{Kind: protocol.KindOAuth}
	o.token("access_token", &r.AccessToken)
	o.secret("refresh_token", &r.RefreshToken)
	o.text("scope", &scope)
	r.Scopes = strings.Fields(scope)
	if seconds, ok := o.seconds("expires_at"); ok {
		r.Expiry = time.Unix(seconds, 0)
	}
	if o.err != nil {
		return Record{}, o.err
	}
	if r.IsStub() {
		return Record{}, &protocol.Error{Code: protocol.CodeLoginRequired, Message: name + " holds no token"}
	}
	if r.AccessToken.Empty() {
		r.Expiry = due
	}
	return r, r.checkClaude(name)
}

// isSDK reports whether o has the form of credentials/<profile>.json of the vendor's SDKs. Some SDKs leave the type out, and
// write the version.
func (o *object) isSDK() bool {
	if o.has(claudeKey) {
		return false
	}
	return o.is("type", "oauth_token") ||
		!o.has("type") && strings.HasPrefix(o.string("version"), "1.") && o.any("access_token", "refresh_token")
}

// ReadAccount reads who is signed in from the predecessor's account.json, which holds the answer of the provider's user profile
// endpoint. The caller sets Fetched, to the time of the file.
func ReadAccount(r io.Reader) (protocol.Identity, error) {
	src, err := readInput(r)
	if err != nil {
		return protocol.Identity{}, err
	}
	return readAccount("the input", src)
}

func readAccount(name string, src []byte) (protocol.Identity, error) {
	if len(bytes.TrimSpace(src)) == 0 {
		return protocol.Identity{}, invalid(name, "is empty")
	}
	top, err := readObject(name, src)
	if err != nil {
		return protocol.Identity{}, err
	}
	part := func(key string) (*object, error) {
		if !top.has(key) {
			return &object{name: name}, nil
		}
		return readObject(name, top.values[key])
	}
	account, err := part("account")
	if err != nil {
		return protocol.Identity{}, err
	}
	organization, err := part("organization")
	if err != nil {
		return protocol.Identity{}, err
	}
	var i protocol.Identity
	var kind string
	account.text("uuid", &i.Account)
	account.text("email", &i.Email)
	account.text("full_name", &i.Name)
	if i.Name == "" {
		account.text("display_name", &i.Name)
	}
	organization.text("uuid", &i.OrganizationID)
	organization.text("name", &i.Organization)
	organization.text("organization_type", &kind)
	if err := errors.Join(account.err, organization.err); err != nil {
		return protocol.Identity{}, invalid(name, "holds an account in another form than expected")
	}
	if i.Account == "" && i.Email == "" && i.OrganizationID == "" {
		return protocol.Identity{}, &protocol.Error{Code: protocol.CodeNotFound, Message: name + " names no account"}
	}
	for _, s := range []string{i.Account, i.Email, i.Name, i.Organization, i.OrganizationID} {
		if !printable(s) {
			return protocol.Identity{}, invalid(name, "holds an account whose name can't be printed")
		}
	}
	i.Subscription = subscription(account, top.has("account"), kind)
	return i, nil
}

// subscription says what an account pays for. It reads the answer as the predecessor does.
func subscription(account *object, known bool, organizationType string) string {
	if !known {
		return ""
	}
	for _, name := range []string{"max", "pro"} {
		if string(account.values["has_claude_"+name]) == "true" {
			return name
		}
	}
	for _, name := range []string{"max", "pro", "enterprise", "team"} {
		if strings.Contains(strings.ToLower(organizationType), name) {
			return name
		}
	}
	return "free"
}
