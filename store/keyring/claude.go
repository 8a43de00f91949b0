package keyring

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/ccagent/ccagent/protocol"
)

// ClaudeItem is the item of the login Keychain in which Claude Code keeps on macOS what is a file elsewhere. The item belongs to
// security(1), by which Claude Code makes it: another program that asks for it makes a dialogue appear. So it is asked for by way
// of security(1) here as well. Errors are those of [System], and ErrConfig for a name that can't be passed on. Every method
// returns when ctx ends, and after 10 seconds at the latest.
type ClaudeItem struct {
	Program string // security(1)
	Account string
	// Database is the file that the Keychain's items are in, "" where that is not known. Every change of an item replaces it.
	Database string
	// Services are the names that the item may have, the likelier one first. A new one gets the first.
	Services []string
}

// ClaudeServices returns the names of the item for a directory of Claude Code's credentials. variable is the directory that the
// environment names (CLAUDE_SECURESTORAGE_CONFIG_DIR where that is set, else CLAUDE_CONFIG_DIR), "" for none.
//
// Claude Code adds a digest of the path as the variable spells it, even if it would look there anyway, and adds none where no
// variable names a directory. A trailing slash makes another item. All of this was read in the source of 2.1.330.
func ClaudeServices(configDir, home, variable string) ([]string, error) {
	const name = "Claude Code-credentials"
	// It digests the composed form (NFC). All paths but those of old disks are composed already.
	if strings.ContainsFunc(configDir, func(c rune) bool { return unicode.Is(unicode.Mn, c) }) {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: configDir + " is spelled with separate accents, so the name of its Keychain item is not known",
			Hint:    "rename the folder, or write it with composed letters in config_dir",
		}
	}
	sum := sha256.Sum256([]byte(configDir))
	digested := name + "-" + hex.EncodeToString(sum[:])[:8]
	if home != "" && configDir == filepath.Join(home, ".claude") && configDir != variable {
		return []string{name, digested}, nil
	}
	return []string{digested}, nil // the item without a digest, if there is one, is another sign-in
}

// claudeAccount is the account of a user's item. It is the name of the user, unless Claude Code does not know or trust that (read
// in the source of 2.1.330).
func claudeAccount(user string) string {
	if user != "" && strings.Trim(user, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == "" {
		return user
	}
	return "claude-code-user"
}

// loginKeychain is the file of the Keychain that new items go to unless a person has chosen another.
func loginKeychain(home string) string {
	if home == "" {
		return ""
	}
	return filepath.Join(home, "Library/Keychains/login.keychain-db")
}

// maxCommand is how long a line security(1) reads whole, in bytes, with a little to spare.
const maxCommand = 4096 - 64

// command is the line that writes the item, with its value in hexadecimal. The line goes to standard input, because other users
// can see arguments.
func (k *ClaudeItem) command(service string, data []byte) (string, error) {
	for _, s := range []string{k.Account, service} {
		if strings.ContainsFunc(s, func(c rune) bool { return c == '"' || c == '\\' || unicode.IsControl(c) }) {
			return "", &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("%q can't be passed to security(1)", s)}
		}
	}
	line := fmt.Sprintf("add-generic-password -U -a \"%s\" -s \"%s\" -X \"%x\"\n", k.Account, service, data)
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

// maxItem is how large the value of an item may be, in bytes.
const maxItem = 4 << 20

// Find returns the item's value, and the name that it is stored under. With ErrNotFound that is the name for a new item.
func (k *ClaudeItem) Find(ctx context.Context) (data []byte, service string, err error) {
	for _, service := range k.Services {
		out, err := k.run(ctx, "", "find-generic-password", "-a", k.Account, "-s", service, "-w")
		if errors.Is(err, protocol.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		out = bytes.TrimRight(out, "\n")
		// A value that is not plain text is printed in hexadecimal. The value itself is JSON, and so begins with a brace.
		if plain, err := hex.DecodeString(string(out)); err == nil {
			out = plain
		}
		if len(out) > maxItem {
			return nil, "", &protocol.Error{Code: protocol.CodeInvalid, Message: "Claude Code's Keychain item is larger than 4 MiB",
				Hint: "nothing was changed; repair it, or move it away and sign in again"}
		}
		return out, service, nil
	}
	return nil, k.Services[0], &protocol.Error{
		Code:    protocol.CodeNotFound,
		Message: "nothing is stored: the Keychain has no item " + k.Services[0],
		Hint:    "sign in with Claude Code: run claude, then type /login",
	}
}

// Write gives the item of that name another value, and makes it where there is none.
func (k *ClaudeItem) Write(ctx context.Context, service string, data []byte) error {
	line, err := k.command(service, data)
	if err != nil {
		return err
	}
	_, err = k.run(ctx, line, "-i")
	return err
}

// Ready fails if the item could not be written with size bytes. It writes another item, and removes that.
func (k *ClaudeItem) Ready(ctx context.Context, service string, size int) error {
	if _, err := k.command(service, make([]byte, size)); err != nil {
		return err
	}
	probe := service + " (ccagent's trial)"
	err := k.Write(ctx, probe, []byte("to see whether the Keychain takes it"))
	if err == nil {
		err = k.Remove(ctx, probe)
	}
	return err
}

// Remove removes the item of that name.
func (k *ClaudeItem) Remove(ctx context.Context, service string) error {
	_, err := k.run(ctx, "", "delete-generic-password", "-a", k.Account, "-s", service)
	return err
}

// securityExits are exit statuses of security(1): 36 says that it may not ask a person, 44 that there is no such item, and 51 and
// 128 that the person said no.
var securityExits = map[int]protocol.Code{
	36: protocol.CodeLocked, 44: protocol.CodeNotFound, 51: protocol.CodeLocked, 128: protocol.CodeLocked,
}

// run runs security(1), and ends it with all that it has started after callLimit.
func (k *ClaudeItem) run(ctx context.Context, in string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.Program, args...)
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
			Hint: "it may be waiting for an answer to a dialogue"}
	case errors.As(err, &exit):
		switch securityExits[exit.ExitCode()] {
		case protocol.CodeNotFound:
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: "the Keychain has no such item"}
		case protocol.CodeLocked:
			return nil, errLocked()
		}
		return nil, unusable("security(1) failed: " + exit.String())
	}
	return nil, unusable("security(1) can't be run")
}
