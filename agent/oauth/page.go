package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"log"
	"net/http"
)

// page is what a person sees in the browser when the sign-in has ended. It has no script and loads nothing.
type page struct {
	Title   string
	Text    string
	Hint    string
	Profile string
	Bad     bool
}

const style = `
:root { color-scheme: light dark; --ground: #fbfaf8; --text: #1f2328; --quiet: #59636e; --mark: #1a7f37; --line: #d1d9e0 }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --text: #e6e9ec; --quiet: #9aa4ae; --mark: #4fbf67; --line: #363d45 } }
.bad { --mark: #c62828 }
@media (prefers-color-scheme: dark) { .bad { --mark: #ff8a80 } }
body { margin: 0; background: var(--ground); color: var(--text); font: 1.125rem/1.55 system-ui, sans-serif }
main { max-width: 34rem; margin: 15vh auto 0; padding: 0 1.5rem }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 600; margin: 0 0 1rem; padding-left: .8rem; border-left: .35rem solid var(--mark) }
p { margin: 0 0 1rem; overflow-wrap: anywhere }
footer { margin-top: 2rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet); font-size: .95rem }
`

// html writes the page. Every text in it is escaped: some of them came from outside.
func (p page) html() string {
	body, hint := "<body>", ""
	if p.Bad {
		body = `<body class="bad">`
	}
	if p.Hint != "" {
		hint = "<p>" + html.EscapeString(p.Hint) + "</p>"
	}
	title := html.EscapeString(p.Title)
	return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>` + title + ` · ccagent</title><style>` + style + `</style></head>
` + body + `<main><h1>` + title + `</h1><p>` + html.EscapeString(p.Text) + `</p>` + hint + `
<footer>ccagent · profile ` + html.EscapeString(p.Profile) + `</footer></main></body></html>
`
}

// policy is a Content-Security-Policy that allows the style above and nothing else.
func policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// show writes a page. If the browser has gone away, that is no error.
func (l *Loopback) show(w http.ResponseWriter, status int, p page) {
	p.Profile = l.profile
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy())
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	io.WriteString(w, p.html())
}

// silent drops what net/http logs about strange requests, because it may quote them, and an authorization code with them.
var silent = log.New(io.Discard, "", 0)
