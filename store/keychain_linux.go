package store

// systemKeychain returns nil: Claude Code's record is a file here.
func systemKeychain(string) func() (*keychain, error) { return nil }
