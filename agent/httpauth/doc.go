// Package httpauth connects net/http with an agent. Programs send requests with a valid token, and services check the tokens of
// requests.
//
// # Sending tokens
//
// [Agent] is one profile of an agent. It asks the agent once, and caches the token until the agent says that it has changed, or
// until the token is about to expire. Callers who ask at the same time share one request. [Transport] sends its token with every
// request:
//
//	pool, err := protocol.PoolFromEnv(true)
//	if err != nil { ... }
//	defer pool.Close()
//	auth := httpauth.NewAgent(pool, "gateway")
//	defer auth.Close()
//	client := &http.Client{Transport: &httpauth.Transport{Agent: auth}}
//
// An Agent is an oauth2.TokenSource as well, for libraries that want one. [Agent.For] returns one for a single host.
//
// The token is sent to the hosts that the profile lists in config.toml (hosts = [...]; a profile without a list trusts the
// program). It is sent over TLS or to this machine, and never follows a redirect to another origin. After a 401 the request is
// sent once more with a new token, if it can be sent again. [Transport] has fields for services that want the token at another
// place than the Authorization header, and for bodies that must be recorded to be sent again.
//
// # Checking tokens
//
// [Require] makes middleware from a [Policy]:
//
//	guard, err := httpauth.Require(httpauth.Policy{Mode: httpauth.Bearer, TokenFile: "/etc/service/tokens"})
//	if err != nil { ... }
//	http.ListenAndServe("127.0.0.1:8080", guard(handler))
//
// In mode [Bearer] the request must carry a token that the policy accepts: one from a list, one from a file that is read again
// while the service runs, or a foreign one that a [Validator] accepts ([NewJWT], [NewIntrospection]). In mode [Stored] the
// service itself must be signed in. That says nothing about the caller, so listen only where trusted programs can connect. Mode
// [Either] is Bearer where the policy accepts any bearer token, and else Stored. In this mode, too, a bearer token in the request
// must be accepted.
//
// The handler asks [FromContext] whose request it is. The answer is an [Authenticator], with a token for further requests: a
// [Static] token, an Agent, or what a Validator said about a foreign token.
//
// # Answers of the middleware
//
//	400 Bearer error="invalid_request"     the Authorization header holds no token, two tokens, or what can't be one
//	401 Bearer                             no bearer token, or the service itself is not signed in
//	401 Bearer error="invalid_token"       a token that is not accepted
//	403 Bearer error="insufficient_scope"  a scope is missing
//	500                                    the service is not configured correctly
//	503 with Retry-After                   the agent, the provider or the token file can't be asked at the moment
//
// They are those of RFC 6750 section 3. The body is a JSON object for a client that accepts JSON, and a line of text for others.
// It never quotes the request.
//
// # Errors, secrets, concurrency
//
// Errors are those of package protocol, for errors.Is. No error and no line of the log holds a token. Everything here may be used
// concurrently.
package httpauth
