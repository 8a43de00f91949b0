package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/ccagent/ccagent/protocol"
)

// Claude Code on macOS keeps what is a file elsewhere in an item of the login Keychain, by way of security(1). The item
// belongs to that program: another one that asks for it makes a dialogue appear. So we go the same way.

// keychain is where Claude Code's item rests.
type keychain struct {
	program string // security(1)
	account string
	// database is the file that the Keychain's items are in, "" where that is not known. Every change of an item replaces it.
	database string
	// services are the names that the item may have, the likelier one first. A new one gets the first.
	services []string
}

// claudeServices returns the names of the item for a directory of Claude Code's credentials. Claude Code adds a digest of the
// path, spelled as it is in the variable that names it (CLAUDE_SECURESTORAGE_CONFIG_DIR where that is set, else
// CLAUDE_CONFIG_DIR; read in the source of 2.1.330), be it to where it would look anyway, and none where no variable names one. A
// trailing slash makes another item.
func claudeServices(configDir, home string) ([]string, error) {
	const name = "Claude Code-credentials"
	// It digests the composed form (NFC). Paths that need no composing are all but those of old disks.
	if strings.ContainsFunc(configDir, func(c rune) bool { return unicode.Is(unicode.Mn, c) }) {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: configDir + " is spelled with separate accents, so the name of its Keychain item can't be told",
			Hint:    "rename the folder, or set config_dir to it spelled with whole letters",
		}
	}
	sum := sha256.Sum256([]byte(configDir))
	digested := name + "-" + hex.EncodeToString(sum[:])[:8]
	if home != "" && configDir == filepath.Join(home, ".claude") {
		return []string{name, digested}, nil
	}
	return []string{digested}, nil
}

// plainName is what Claude Code takes for a user's name (read in the source of 2.1.330).
var plainName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

// claudeAccount is the account that a user's item is of: the user, but for a name that Claude Code does not trust, or does not
// know.
func claudeAccount(user string) string {
	if plainName.MatchString(user) {
		return user
	}
	return "claude-code-user"
}

// servicesFor is claudeServices where the variable of the environment is known: of one that names this very directory the item
// has the digest, and the one without it is another sign-in.
func servicesFor(configDir, home, variable string) ([]string, error) {
	services, err := claudeServices(configDir, home)
	if err == nil && variable == configDir {
		services = services[len(services)-1:]
	}
	return services, err
}

// loginKeychain is the file of the Keychain that new items go to unless a person has chosen another.
func loginKeychain(home string) string {
	if home == "" {
		return ""
	}
	return filepath.Join(home, "Library/Keychains/login.keychain-db")
}

// maxCommand is how long a line security(1) reads whole, with a little to spare.
const maxCommand = 4096 - 64

// command is the line that writes the item. Its value goes in hexadecimal, and by standard input: arguments can be seen by
// others.
func (k *keychain) command(service string, data []byte) (string, error) {
	for _, s := range []string{k.account, service} {
		if strings.ContainsFunc(s, func(c rune) bool { return c == '"' || c == '\\' || unicode.IsControl(c) }) {
			return "", &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("%q can't be handed to security(1)", s)}
		}
	}
	line := fmt.Sprintf("add-generic-password -U -a \"%s\" -s \"%s\" -X \"%x\"\n", k.account, service, data)
	if len(line) > maxCommand {
		return "", &protocol.Error{
			Code: protocol.CodeStorage,
			Message: fmt.Sprintf("Claude Code's Keychain item is too large to be written safely: %d bytes, and %d fit",
				len(data), len(data)-(len(line)-maxCommand+1)/2),
			Hint: "sign out of MCP servers that you don't use, or give ccagent a sign-in of its own: ccagent login -p NAME",
		}
	}
	return line, nil
}

// find returns the item's value and under which name it is. With ErrNotFound the name is the one for a new item.
func (k *keychain) find(ctx context.Context) (data []byte, service string, err error) {
	for _, service := range k.services {
		out, err := k.run(ctx, "", "find-generic-password", "-a", k.account, "-s", service, "-w")
		if errors.Is(err, protocol.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		out = bytes.TrimRight(out, "\n")
		// What is not plain text comes in hexadecimal, and what we look for begins with a brace.
		if plain, err := hex.DecodeString(string(out)); err == nil {
			out = plain
		}
		if len(out) > MaxFile {
			return nil, "", invalid("Claude Code's Keychain item", "is larger than 4 MiB")
		}
		return out, service, nil
	}
	return nil, k.services[0], &protocol.Error{
		Code:    protocol.CodeNotFound,
		Message: "nothing is stored: the Keychain has no item " + k.services[0],
		Hint:    "sign in with Claude Code: run claude, then type /login",
	}
}

func (k *keychain) write(ctx context.Context, service string, data []byte) error {
	line, err := k.command(service, data)
	if err != nil {
		return err
	}
	_, err = k.run(ctx, line, "-i")
	return err
}

// ready fails if the item could not be written with so many bytes: then nothing that spends the refresh token may begin. Another
// item is written, and removed.
func (k *keychain) ready(ctx context.Context, service string, size int) error {
	if _, err := k.command(service, make([]byte, size)); err != nil {
		return err
	}
	probe := service + " (ccagent's trial)"
	err := k.write(ctx, probe, []byte("to see whether the Keychain takes it"))
	if err == nil {
		err = k.remove(ctx, probe)
	}
	return err
}

func (k *keychain) remove(ctx context.Context, service string) error {
	_, err := k.run(ctx, "", "delete-generic-password", "-a", k.account, "-s", service)
	return err
}

// What security(1) exits with: 36 when it may not ask, 44 when there is no such item, 51 and 128 when the person said no.
var securityExits = map[int]protocol.Code{
	36: protocol.CodeLocked, 44: protocol.CodeNotFound, 51: protocol.CodeLocked, 128: protocol.CodeLocked,
}

// run runs security(1), with all it started, for callLimit at most.
func (k *keychain) run(ctx context.Context, in string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.program, args...)
	cmd.Stdin = strings.NewReader(in)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return nil, &protocol.Error{Code: protocol.CodeStorage, Message: "the Keychain did not answer in time",
			Hint: "it may be waiting behind a dialogue"}
	case errors.As(err, &exit):
		switch securityExits[exit.ExitCode()] {
		case protocol.CodeNotFound:
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: "the Keychain has no such item"}
		case protocol.CodeLocked:
			return nil, lockedKeyring()
		}
		return nil, unreachable("security(1) failed: " + exit.String())
	}
	return nil, unreachable("security(1) can't be run")
}
