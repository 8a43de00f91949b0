//go:build !linux && !darwin

package process

// Of knows nothing here.
func Of(int32) (Info, bool) { return Info{}, false }

// Ended knows nothing here, and takes no process for ended.
func Ended(ID) <-chan struct{} { return nil }
