// Package early asks the agent for a token before Go's runtime starts, on Linux on amd64 and arm64. README.md in this folder
// explains how that works, when it steps aside, and what keeps it in bounds.
//
// To the rest of the helper it is two functions: [Token] asks the agent, or takes over the request that was sent early, and
// [Stdout] is standard output, without what was written there early. On other systems they are the plain client and os.Stdout.
package early
