package store

import (
	"os"
	"os/user"

	"github.com/ccagent/ccagent/protocol"
)

// systemKeychain returns how to find Claude Code's item for that directory.
func systemKeychain(configDir string) func() (*keychain, error) {
	return func() (*keychain, error) {
		account := os.Getenv("USER")
		if account == "" {
			if u, err := user.Current(); err == nil {
				account = u.Username
			}
		}
		home := os.Getenv("HOME")
		variable, err := protocol.ClaudeDir(os.LookupEnv)
		if err != nil {
			return nil, err
		}
		services, err := servicesFor(configDir, home, variable)
		return &keychain{
			program:  "/usr/bin/security",
			account:  claudeAccount(account),
			database: loginKeychain(home),
			services: services,
		}, err
	}
}
