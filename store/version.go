package store

// Version is what a Store that holds r says it holds: for those who write one.
func (r Record) Version() Version { return r.version() }
