// Package docs holds the documents that `ccagent help` shows and the manual pages are made from.
package docs

import "embed"

// Files are the documents, in Markdown.
//
//go:embed *.md
var Files embed.FS
