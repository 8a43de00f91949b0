package keyring

import (
	"os"
	"os/user"

	"github.com/ccagent/ccagent/protocol"
)

// Claude returns how to find Claude Code's item for that directory, in the environment as it is then. It is nil where there is
// no Keychain.
func Claude(configDir string) func() (*ClaudeItem, error) {
	return func() (*ClaudeItem, error) {
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
		services, err := ClaudeServices(configDir, home, variable)
		return &ClaudeItem{
			Program:  "/usr/bin/security",
			Account:  claudeAccount(account),
			Database: loginKeychain(home),
			Services: services,
		}, err
	}
}
