// Package httpauth joins net/http and an agent: requests that carry a live token, and services that ask for one.
//
// # Sending tokens
//
// [Agent] is one profile of an agent, kept at hand. It asks the agent once, answers from memory until the agent says that
// something has changed or the token nears its end, and lets all who wait share one question. [Transport] sends its token with
// every request:
//
//	pool, err := protocol.PoolFromEnv(true)
//	if err != nil { ... }
//	defer pool.Close()
//	auth := httpauth.NewAgent(pool, "gateway")
//	defer auth.Close()
//	client := &http.Client{Transport: &httpauth.Transport{Agent: auth}}
//
// For a library that wants an oauth2.TokenSource, an Agent is one; [Agent.For] is one for a host.
//
// The token goes to hosts that the profile lists in config.toml (hosts = [...]; a profile that lists none trusts the program),
// over TLS or to this machine, and never along a redirect to another origin. A 401 is answered once with a fresh token, where the
// request can be sent again.
//
// # Asking for tokens
//
// [Require] makes middleware from a [Policy]:
//
//	guard, err := httpauth.Require(httpauth.Policy{Mode: httpauth.Bearer, TokenFile: "/etc/service/tokens"})
//	if err != nil { ... }
//	http.ListenAndServe("127.0.0.1:8080", guard(handler))
//
// In mode [Bearer] the request must carry a token that the policy accepts: one of a list, one of a file that is looked at again
// while the service runs, or a foreign one that a [Validator] vouches for ([NewJWT], [NewIntrospection]). In mode [Stored] the
// service's own sign-in must be in order: that authenticates the service and nobody who calls it, so listen where only trusted
// programs connect. Mode [Either] is the first where the policy accepts any token, and else the second; in it a bearer that is
// present must be right, and never falls back.
//
// The handler finds who it is, and a token to go on with, by [FromContext]: an [Authenticator], which is a [Static] token, an
// Agent, or what a Validator said of a foreign token.
//
// # Answers of the middleware
//
//	400 Bearer error="invalid_request"     the Authorization header holds no token, two, or what no token can be
//	401 Bearer                             no bearer token, or the service itself is not signed in
//	401 Bearer error="invalid_token"       a token that is not accepted
//	403 Bearer error="insufficient_scope"  a scope is missing
//	500                                    the service is configured wrongly
//	503 with Retry-After                   agent, provider or token file can't be asked at the moment
//
// as RFC 6750 section 3 has them. The body is one JSON object for who accepts JSON, and a line of text for everybody else.
// Neither quotes the request.
//
// # Errors, secrets, concurrency
//
// Errors are those of package protocol: errors.Is finds its sentinels. No error and no log line holds a token. Everything here
// may be used concurrently once it is made.
package httpauth
