//go:build !linux && !darwin

package process

// Of knows nothing here.
func Of(int32) (Info, bool) { return Info{}, false }
