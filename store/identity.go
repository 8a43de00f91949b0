package store

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
)

// Identity is the key of the encrypted store: what its records are encrypted to, and what opens them. With the zero Identity the
// store is locked.
type Identity struct {
	identities []age.Identity
	recipients []age.Recipient
}

// ParseIdentity reads what [UnlockIdentity] returned: age secret keys, one a line, or an SSH private key without a passphrase.
// The error (ErrInvalid) holds nothing of the key.
func ParseIdentity(key protocol.Secret) (Identity, error) {
	text := key.Reveal()
	if strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
		return parseSSH([]byte(text))
	}
	identities, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		return Identity{}, notIdentity("the key")
	}
	var id Identity
	for _, i := range identities {
		switch i := i.(type) {
		case *age.X25519Identity:
			id.recipients = append(id.recipients, i.Recipient())
		case *age.HybridIdentity:
			id.recipients = append(id.recipients, i.Recipient())
		default:
			return Identity{}, notIdentity("the key")
		}
		id.identities = append(id.identities, i)
	}
	// age encrypts no file to both kinds.
	if _, err := age.Encrypt(io.Discard, id.recipients...); err != nil {
		return Identity{}, notIdentity("the key")
	}
	return id, nil
}

func parseSSH(text []byte) (Identity, error) {
	parsed, err := agessh.ParseIdentity(text)
	if err != nil {
		return Identity{}, notIdentity("the key")
	}
	switch i := parsed.(type) {
	case *agessh.Ed25519Identity:
		return Identity{[]age.Identity{i}, []age.Recipient{i.Recipient()}}, nil
	case *agessh.RSAIdentity:
		return Identity{[]age.Identity{i}, []age.Recipient{i.Recipient()}}, nil
	}
	return Identity{}, notIdentity("the key")
}

func notIdentity(name string) error {
	return &protocol.Error{
		Code:    protocol.CodeInvalid,
		Message: name + " is neither an age identity nor an SSH private key of type ed25519 or RSA",
		Hint:    "age-keygen makes one",
	}
}

// IdentityPath is the file of the user's identity, encrypted with the passphrase: `<data dir>/identity.age`. Records are
// encrypted to the identity, and not with the passphrase. So saving a record needs no passphrase, one derivation of a key unlocks
// all of them, and a new passphrase changes one small file.
func IdentityPath(dataDir string) string { return filepath.Join(dataDir, "identity.age") }

// CreateIdentity makes the user's identity at path, encrypted with the passphrase, and returns it unlocked. If there is one
// already, it stays, and the error is ErrConfig. It takes a second or two, and up to 1 GiB of memory.
func CreateIdentity(ctx context.Context, path string, passphrase protocol.Secret) (protocol.Secret, error) {
	return createIdentity(ctx, path, passphrase, workFactor)
}

func createIdentity(ctx context.Context, path string, passphrase protocol.Secret, factor func() int) (protocol.Secret, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return protocol.Secret{}, err
	}
	key := protocol.NewSecret(identity.String())
	err = whileLocked(ctx, path+".lock", func() error {
		info, err := os.Lstat(path)
		empty := err == nil && info.Mode().IsRegular() && info.Size() == 0 // it is no identity
		if !empty && !errors.Is(err, fs.ErrNotExist) {
			return &protocol.Error{Code: protocol.CodeConfig, Message: path + " is there already",
				Hint: "use it, or move it away"}
		}
		return writeIdentity(path, key, passphrase, factor())
	})
	if err != nil {
		return protocol.Secret{}, err
	}
	return key, nil
}

// UnlockIdentity reads the identity file at path and returns what [ParseIdentity] takes. The file is one of [CreateIdentity] or
// of age, encrypted with a passphrase or not, armored or not, or an SSH private key. ErrDenied says that the passphrase is wrong,
// ErrLocked that one is needed and none was given, and ErrNotFound that there is no file. It takes a second or two.
func UnlockIdentity(path string, passphrase protocol.Secret) (protocol.Secret, error) {
	src, err := readFile(path)
	if err != nil {
		return protocol.Secret{}, err
	}
	if marked := lookalike.Marked(src); marked != "" {
		return protocol.Secret{}, &protocol.Error{Code: protocol.CodeInvalid, Message: path + " " + marked, Hint: lookalike.Unmark}
	}
	if len(bytes.TrimSpace(src)) == 0 {
		return protocol.Secret{}, &protocol.Error{Code: protocol.CodeInvalid, Message: path + " is empty",
			Hint: "restore it from a backup: nothing else opens what is encrypted to it\nor begin anew: ccagent unlock --create"}
	}
	key, err := unlock(path, src, passphrase)
	if err != nil {
		return protocol.Secret{}, err
	}
	if _, err := ParseIdentity(key); err != nil {
		return protocol.Secret{}, notIdentity(path)
	}
	return key, nil
}

func unlock(name string, src []byte, passphrase protocol.Secret) (protocol.Secret, error) {
	if block, _ := pem.Decode(src); block != nil && block.Type != armor.Header[len("-----BEGIN "):len(armor.Header)-len("-----")] {
		return unlockSSH(name, src, passphrase)
	}
	var in io.Reader = bytes.NewReader(src)
	switch {
	case bytes.HasPrefix(src, []byte(armor.Header)):
		in = armor.NewReader(in)
	case !bytes.HasPrefix(src, []byte("age-encryption.org/")):
		return protocol.NewSecret(string(src)), nil
	}
	if passphrase.Empty() {
		return protocol.Secret{}, wantsPassphrase(name)
	}
	identity, err := age.NewScryptIdentity(passphrase.Reveal())
	if err != nil {
		return protocol.Secret{}, wantsPassphrase(name)
	}
	var wrong *age.NoIdentityMatchError
	plain, err := age.Decrypt(in, identity)
	switch {
	case errors.As(err, &wrong):
		return protocol.Secret{}, wrongPassphrase(name)
	case err != nil:
		return protocol.Secret{}, invalid(name, "is not a whole file of age")
	}
	text, err := io.ReadAll(io.LimitReader(plain, MaxFile))
	if err != nil {
		return protocol.Secret{}, invalid(name, "is not a whole file of age")
	}
	return protocol.NewSecret(string(text)), nil
}

func unlockSSH(name string, src []byte, passphrase protocol.Secret) (protocol.Secret, error) {
	_, err := ssh.ParseRawPrivateKey(src)
	var missing *ssh.PassphraseMissingError
	switch {
	case err == nil:
		return protocol.NewSecret(string(src)), nil
	case !errors.As(err, &missing):
		return protocol.Secret{}, notIdentity(name)
	case passphrase.Empty():
		return protocol.Secret{}, wantsPassphrase(name)
	}
	key, err := ssh.ParseRawPrivateKeyWithPassphrase(src, []byte(passphrase.Reveal()))
	if err != nil {
		return protocol.Secret{}, wrongPassphrase(name)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil || !isAgeKey(key) {
		return protocol.Secret{}, notIdentity(name)
	}
	return protocol.NewSecret(string(pem.EncodeToMemory(block))), nil
}

// isAgeKey reports whether an SSH private key is of a type that age encrypts to.
func isAgeKey(key any) bool {
	switch key.(type) {
	case *ed25519.PrivateKey, *rsa.PrivateKey:
		return true
	}
	return false
}

// ChangePassphrase gives the identity file another passphrase, and returns the identity unlocked. If it is interrupted, the old
// passphrase or the new one opens the file. The records stay as they are. ErrDenied says that the old passphrase is wrong.
func ChangePassphrase(ctx context.Context, path string, old, next protocol.Secret) (protocol.Secret, error) {
	return changePassphrase(ctx, path, old, next, workFactor)
}

func changePassphrase(
	ctx context.Context,
	path string,
	old, next protocol.Secret,
	factor func() int,
) (key protocol.Secret, err error) {
	err = whileLocked(ctx, path+".lock", func() error {
		src, err := readFile(path)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(src, []byte("age-encryption.org/")) {
			return &protocol.Error{Code: protocol.CodeConfig, Message: path + " is not a file that ccagent made",
				Hint: "change its passphrase with the program that made it"}
		}
		opened, err := unlock(path, src, old)
		if err != nil {
			return err
		}
		if _, err := ParseIdentity(opened); err != nil {
			return notIdentity(path)
		}
		if err := writeIdentity(path, opened, next, factor()); err != nil {
			return err
		}
		key = opened // it was read back before it was written, and the records are opened by the same key as before
		return nil
	})
	return key, err
}

func writeIdentity(path string, key, passphrase protocol.Secret, factor int) error {
	recipient, err := age.NewScryptRecipient(passphrase.Reveal())
	if err != nil {
		return &protocol.Error{Code: protocol.CodeConfig, Message: "the passphrase is empty"}
	}
	recipient.SetWorkFactor(factor)
	data, err := encrypt([]byte(key.Reveal()+"\n"), recipient)
	if err != nil {
		return err
	}
	// A file that can't be read back would be worse than the one that is there, so it is tried before it is written.
	if again, err := unlock(path, data, passphrase); err != nil ||
		strings.TrimSpace(again.Reveal()) != strings.TrimSpace(key.Reveal()) {
		return &protocol.Error{Code: protocol.CodeStorage, Message: "the identity could not be encrypted"}
	}
	return writeFile(path, data, disk.Always)
}

// The bounds of the work factor, which is the logarithm to base 2 of scrypt's N. The lower takes 32 MiB of memory, the upper 1
// GiB.
const (
	minWork = 15
	maxWork = 20
)

// workFactor returns the work factor with which it takes this machine about a second to try a passphrase.
func workFactor() int {
	recipient, err := age.NewScryptRecipient("to see how fast this machine is")
	if err != nil {
		return minWork
	}
	recipient.SetWorkFactor(minWork)
	started := time.Now()
	if _, err := recipient.Wrap(make([]byte, 16)); err != nil {
		return minWork
	}
	return factorFor(time.Since(started))
}

// factorFor returns the work factor that takes about a second, if minWork takes so long.
func factorFor(took time.Duration) int {
	factor := minWork
	for took < 700*time.Millisecond && factor < maxWork {
		took *= 2
		factor++
	}
	return factor
}

func wantsPassphrase(name string) error {
	return &protocol.Error{Code: protocol.CodeLocked, Message: name + " needs its passphrase", Hint: unlockHint}
}

func wrongPassphrase(name string) error {
	return &protocol.Error{Code: protocol.CodeDenied, Message: "the passphrase does not open " + name}
}

const unlockHint = "unlock it: ccagent unlock"
