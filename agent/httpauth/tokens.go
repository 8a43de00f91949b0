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

	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
)

// tokens is a set of accepted tokens. A token is compared with all of them, by digest and in constant time. So the time that it
// takes tells neither which token it was nor how much of it was right.
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

// match returns the owner of the token with a digest, nil where there is none.
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
	// reloadAfter is how long the content of a token file is used before the file is read again.
	reloadAfter = time.Second
	// maxTokenFile bounds the size of a token file, in bytes.
	maxTokenFile = 64 << 10
)

// tokenFile is a set of accepted tokens in a file, one on each line. The file is read again while the set is in use. A change
// shows in its text, of which the digest is compared, and not in its time, which a quick rewrite may leave as it was. While the
// file can't be read, no token in it is accepted.
type tokenFile struct {
	path string
	made time.Time    // next counts from here, with the monotonic clock, so that a clock that is set back does not delay it
	next atomic.Int64 // when to read the file again, in nanoseconds after made
	set  atomic.Pointer[tokens]

	mu   sync.Mutex // held by the one who reads the file
	text [sha256.Size]byte
	err  atomic.Pointer[error] // of the last reading; its value may be nil
}

func openTokenFile(path string) (*tokenFile, error) {
	f := &tokenFile{path: path, made: time.Now()}
	f.reload()
	_, err := f.current()
	return f, err
}

// current returns what the file accepts.
func (f *tokenFile) current() (*tokens, error) {
	if time.Since(f.made) >= time.Duration(f.next.Load()) && f.mu.TryLock() {
		f.reload()
		f.mu.Unlock()
	}
	return f.set.Load(), *f.err.Load()
}

// reload reads the file. The caller holds f.mu, unless nobody else knows f yet.
func (f *tokenFile) reload() {
	f.next.Store(int64(time.Since(f.made) + reloadAfter))
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
	if marked := lookalike.Marked(text); err == nil && marked != "" {
		err = errors.New(path + " " + marked)
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
