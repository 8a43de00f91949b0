package httpauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// tokens is a set of accepted tokens. Those that come are compared by digest, all of them and in constant time: how long it
// takes says neither how much of one was right nor which one it was.
type tokens struct {
	digests [][sha256.Size]byte
	who     []Authenticator
}

func newTokens(list []string) (*tokens, error) {
	set := &tokens{}
	for i, text := range list {
		s, err := NewStatic(text)
		if err != nil {
			return nil, fmt.Errorf("accepted token %d: %w", i+1, err)
		}
		set.digests = append(set.digests, sha256.Sum256([]byte(s.token.Reveal())))
		set.who = append(set.who, s)
	}
	return set, nil
}

// match returns whose token has the digest, nil for nobody's.
func (t *tokens) match(digest *[sha256.Size]byte) Authenticator {
	found := 0
	for i := range t.digests {
		equal := subtle.ConstantTimeCompare(digest[:], t.digests[i][:])
		found = subtle.ConstantTimeSelect(equal, i+1, found)
	}
	if found == 0 {
		return nil
	}
	return t.who[found-1]
}

const (
	// lookAgain is how old what is known of a token file may be.
	lookAgain = time.Second
	// maxTokenFile bounds a token file.
	maxTokenFile = 64 << 10
)

// tokenFile is a set of accepted tokens in a file, one a line. It is read again while it is in use: not its time is
// compared, which a quick rewrite may leave as it was, but its text, by digest. One that can't be read accepts nothing.
type tokenFile struct {
	path string
	made time.Time    // what the next look counts from: a clock that is set back must not put it off
	next atomic.Int64 // nanoseconds after made, of the next look
	set  atomic.Pointer[tokens]

	mu   sync.Mutex // one look at a time
	text [sha256.Size]byte
	err  atomic.Pointer[error] // of the last look; its value may be nil
}

func openTokenFile(path string) (*tokenFile, error) {
	f := &tokenFile{path: path, made: time.Now()}
	f.look()
	_, err := f.current()
	return f, err
}

// current returns what the file accepts.
func (f *tokenFile) current() (*tokens, error) {
	if time.Since(f.made) >= time.Duration(f.next.Load()) && f.mu.TryLock() {
		f.look()
		f.mu.Unlock()
	}
	return f.set.Load(), *f.err.Load()
}

// look reads the file. f.mu is held.
func (f *tokenFile) look() {
	f.next.Store(int64(time.Since(f.made) + lookAgain))
	text, err := readTokens(f.path)
	digest := sha256.Sum256(text)
	if err == nil && f.set.Load() != nil && digest == f.text {
		return
	}
	var set *tokens
	if err == nil {
		set, err = parseTokens(text)
	}
	if err != nil {
		err = &protocol.Error{Code: protocol.CodeConfig, Message: "the token file can't be used: " + err.Error()}
	}
	f.text = digest
	f.set.Store(set)
	f.err.Store(&err)
}

func readTokens(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New(path + " is not a file")
	case info.Mode().Perm()&0o022 != 0:
		return nil, errors.New(path + " may be written by others")
	}
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFile+1))
	if err == nil && len(text) > maxTokenFile {
		err = errors.New(path + " is larger than 64 KiB")
	}
	return text, err
}

func parseTokens(text []byte) (*tokens, error) {
	var list []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("it holds no token")
	}
	return newTokens(list)
}
