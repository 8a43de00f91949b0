package store

import "os"

// self is not known here: what Claude Code writes on macOS has not been traced, and a wrong owner is worse than none.
func self() (owner, bool) { return owner{}, false }

func birthtime(*os.File) (float64, bool) { return 0, false }
