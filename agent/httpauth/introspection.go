package httpauth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

const (
	defaultKeep  = time.Minute
	refusedKeep  = 10 * time.Second
	defaultCache = 1024
)

// Introspection says where tokens are looked up (RFC 7662).
type Introspection struct {
	// URL is the introspection endpoint.
	URL string
	// ClientID and ClientSecret are this service's own, sent by HTTP Basic authentication (RFC 6749 section 2.3.1).
	ClientID     string
	ClientSecret protocol.Secret
	// Audience must be among the token's; "": any service's token is accepted. Issuer must be the token's; "": any.
	Audience, Issuer string
	// Keep is how long a token that is good is not looked up again, which is how long a revocation may go unnoticed; a token's
	// own expiry comes first. 0: a minute. One that is not good is remembered for 10 seconds at most.
	Keep time.Duration
	// Cache is how many tokens of either kind are remembered, by digest alone. 0: 1024.
	Cache int
	// Client asks; nil: http.DefaultClient. Redirects are not followed.
	Client *http.Client
}

// NewIntrospection returns a [Validator] that asks the tokens' issuer. Those who ask about one token at a time share the
// question. ErrConfig: the URL or the client is missing, or the URL is not one of TLS.
func NewIntrospection(c Introspection) (Validator, error) {
	if err := checkURL("the introspection endpoint", c.URL); err != nil {
		return nil, err
	}
	if c.ClientID == "" {
		return nil, config("an introspection endpoint answers registered clients alone: the client id is missing")
	}
	if c.Keep <= 0 {
		c.Keep = defaultKeep
	}
	if c.Cache <= 0 {
		c.Cache = defaultCache
	}
	return &introspector{
		config: c, client: asking(c.Client), under: map[digest]*inquiry{},
		good: memory{c.Cache, map[digest]verdict{}}, bad: memory{c.Cache, map[digest]verdict{}},
	}, nil
}

type digest = [sha256.Size]byte

type introspector struct {
	config Introspection
	client *http.Client

	mu sync.Mutex
	// Two memories, so that tokens which anybody can make up don't drive out the good ones.
	good, bad memory
	under     map[digest]*inquiry
}

// verdict is what was said of a token.
type verdict struct {
	identity protocol.Identity
	err      error
	until    time.Time
}

// inquiry is a question under way; verdict is set before done is closed.
type inquiry struct {
	done chan struct{}
	verdict
}

// memory is a bounded map.
type memory struct {
	size     int
	verdicts map[digest]verdict
}

func (m memory) recall(of digest, now time.Time) (verdict, bool) {
	v, ok := m.verdicts[of]
	return v, ok && now.Before(v.until)
}

// keep makes room by forgetting one that is over, or else any: maps are walked in no order.
func (m memory) keep(of digest, v verdict, now time.Time) {
	if _, ok := m.verdicts[of]; !ok && len(m.verdicts) >= m.size {
		var any digest
		looked := 0
		for d, v := range m.verdicts {
			any = d
			if looked++; !now.Before(v.until) || looked == 16 {
				break
			}
		}
		delete(m.verdicts, any)
	}
	m.verdicts[of] = v
}

// Validate implements [Validator].
func (i *introspector) Validate(ctx context.Context, token string) (protocol.Identity, error) {
	of, now := sha256.Sum256([]byte(token)), time.Now()
	i.mu.Lock()
	for _, m := range []memory{i.good, i.bad} {
		if v, ok := m.recall(of, now); ok {
			i.mu.Unlock()
			return v.identity, v.err
		}
	}
	q := i.under[of]
	if q == nil {
		q = &inquiry{done: make(chan struct{})}
		i.under[of] = q
		go i.inquire(of, token, q) // ends within the client's time-out
	}
	i.mu.Unlock()
	select {
	case <-q.done:
		return q.identity, q.err
	case <-ctx.Done():
		return protocol.Identity{}, notNow("gave up waiting for the token's issuer")
	}
}

func (i *introspector) inquire(of digest, token string, q *inquiry) {
	claims, err := i.ask(token)
	now := time.Now()
	if err == nil {
		q.identity, q.until, q.err = i.judge(claims, now)
	} else {
		q.err = err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case err != nil: // nothing was said of it
	case q.err == nil:
		i.good.keep(of, q.verdict, now)
	default:
		i.bad.keep(of, q.verdict, now)
	}
	delete(i.under, of)
	close(q.done)
}

// ask asks the endpoint. An error says that it did not answer.
func (i *introspector) ask(token string) (map[string]json.RawMessage, error) {
	away := notNow("the token's issuer can't be asked")
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequest(http.MethodPost, i.config.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, away
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.SetBasicAuth(url.QueryEscape(i.config.ClientID), url.QueryEscape(i.config.ClientSecret.Reveal()))
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, away
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, away
	}
	var claims map[string]json.RawMessage
	isObject := json.Unmarshal(body, &claims) == nil && claims != nil
	code := claim(claims["error"])
	switch {
	case resp.StatusCode == http.StatusUnauthorized, code == "invalid_client", code == "unauthorized_client":
		return nil, notNow("the token's issuer does not know this service: check its client id and secret")
	case resp.StatusCode != http.StatusOK:
		return nil, away
	case !isObject:
		return nil, notNow("the token's issuer did not answer with a JSON object")
	case code != "" && claims["active"] == nil: // some report their errors as successes: nothing was said of the token
		return nil, away
	}
	return claims, nil
}

// judge judges what the endpoint said (RFC 7662 section 2.2), and until when that may be remembered.
func (i *introspector) judge(claims map[string]json.RawMessage, now time.Time) (protocol.Identity, time.Time, error) {
	no := func(why string) (protocol.Identity, time.Time, error) {
		return protocol.Identity{}, now.Add(min(refusedKeep, i.config.Keep)), notGood(why)
	}
	until := now.Add(i.config.Keep)
	var active bool
	if json.Unmarshal(claims["active"], &active) != nil || !active {
		return no("it is not active")
	}
	if raw, ok := claims["exp"]; ok {
		expiry, ok := moment(raw)
		if !ok || !now.Before(expiry) {
			return no("it has expired")
		}
		until = earlier(until, expiry)
	}
	if raw, ok := claims["nbf"]; ok {
		if start, ok := moment(raw); !ok || now.Add(skew).Before(start) {
			return no("it is not valid yet")
		}
	}
	if i.config.Issuer != "" && claim(claims["iss"]) != i.config.Issuer {
		return no("it is from another issuer")
	}
	if i.config.Audience != "" && !audience(claims["aud"], i.config.Audience) {
		return no("it is for another service")
	}
	return identityOf(claims), until, nil
}

// moment is a NumericDate (RFC 7519 section 2).
func moment(raw json.RawMessage) (time.Time, bool) {
	var seconds float64
	if json.Unmarshal(raw, &seconds) != nil || seconds < 0 || seconds > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// audience reports whether aud, a string or a list of them, has the name.
func audience(raw json.RawMessage, name string) bool {
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		var one string
		if json.Unmarshal(raw, &one) != nil {
			return false
		}
		list = []string{one}
	}
	for _, a := range list {
		if a == name {
			return true
		}
	}
	return false
}
