package keyring

// Claude returns nil: Claude Code's sign-in is a file here.
func Claude(string) func() (*ClaudeItem, error) { return nil }
