package store

// NewShelfKeyring returns a maker of keyring stores that share one keyring in memory.
func NewShelfKeyring(stateDir, profile string) func() Store {
	sys := &shelf{}
	return func() Store { return newKeyring(sys, stateDir, profile) }
}
