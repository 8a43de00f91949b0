// Package packaging holds the descriptions that service managers read, for those who install them.
package packaging

import _ "embed"

// The units of systemd's user manager, and the job description of launchd. Each names Program as the program to run.
var (
	//go:embed systemd/ccagent.socket
	Socket string
	//go:embed systemd/ccagent.service
	Service string
	//go:embed launchd/com.github.ccagent.plist
	Plist string
)

// Program is the path that stands for the program in [Service] and [Plist].
const Program = "/usr/bin/ccagent"
