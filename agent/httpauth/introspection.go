package httpauth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/keyset"
	"github.com/ccagent/ccagent/protocol"
)

const (
	defaultKeep        = time.Minute
	refusedKeep        = 10 * time.Second
	defaultCache       = 1024
	defaultConcurrency = 32
)

// Introspection says where tokens are looked up (RFC 7662).
type Introspection struct {
	// URL is the introspection endpoint.
	URL string
	// ClientID and ClientSecret are this service's own. They are sent by HTTP Basic authentication (RFC 6749 section 2.3.1).
	ClientID     string
	ClientSecret protocol.Secret
	// Audience must be among the token's; "": the token of any service is accepted. Issuer must be the token's; "": any.
	Audience, Issuer string
	// Keep is how long a valid token is not looked up again, or until the token expires, if that is sooner. So it is how long a
	// revocation may go unnoticed. 0: a minute. A token that is not valid is remembered for at most 10 seconds.
	Keep time.Duration
	// Cache is how many valid tokens are remembered, and how many others, by their digests alone. 0: 1024.
	Cache int
	// Concurrency is how many tokens are looked up at the same time. Others wait, and after 10 seconds their answer is
	// ErrUnavailable. So whoever makes up tokens can't start requests without end. 0: 32.
	Concurrency int
	// Client asks; nil: http.DefaultClient. Redirects are not followed.
	Client *http.Client
}

// NewIntrospection returns a [Validator] that asks the issuer of the tokens. Callers who ask about the same token at the same
// time share one request. It fails with ErrConfig where the URL or the client is missing, and where the URL is not https.
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
	if c.Concurrency <= 0 {
		c.Concurrency = defaultConcurrency
	}
	return &introspector{
		config: c, client: issuerClient(c.Client), slots: make(chan struct{}, c.Concurrency), running: map[digest]*lookup{},
		valid: cache{c.Cache, map[digest]verdict{}}, invalid: cache{c.Cache, map[digest]verdict{}},
	}, nil
}

type digest = [sha256.Size]byte

type introspector struct {
	config Introspection
	client *http.Client
	slots  chan struct{} // holds one value for each lookup that is running

	mu sync.Mutex
	// There are two caches, so that tokens which anybody can make up don't push out the valid ones.
	valid, invalid cache
	running        map[digest]*lookup
}

// verdict is what the issuer said about a token.
type verdict struct {
	identity protocol.Identity
	err      error // why the token is not valid
	until    time.Time
}

// lookup is a request about one token. verdict is set before done is closed.
type lookup struct {
	done chan struct{}
	verdict
}

// cache is a bounded map.
type cache struct {
	size     int
	verdicts map[digest]verdict
}

func (c cache) get(of digest, now time.Time) (verdict, bool) {
	v, ok := c.verdicts[of]
	return v, ok && now.Before(v.until)
}

// put adds a verdict. In a full cache it first removes one that is over, or else any one: a map has no order.
func (c cache) put(of digest, v verdict, now time.Time) {
	if _, ok := c.verdicts[of]; !ok && len(c.verdicts) >= c.size {
		var victim digest
		seen := 0
		for d, v := range c.verdicts {
			victim = d
			if seen++; !now.Before(v.until) || seen == 16 {
				break
			}
		}
		delete(c.verdicts, victim)
	}
	c.verdicts[of] = v
}

var errBusy = notNow("too many tokens are being looked up at their issuer")

// Validate implements [Validator].
func (i *introspector) Validate(ctx context.Context, token string) (protocol.Identity, error) {
	of := sha256.Sum256([]byte(token))
	known, running := i.find(of)
	if known == nil && running == nil {
		timer := time.NewTimer(requestTimeout)
		defer timer.Stop()
		select {
		case i.slots <- struct{}{}:
		case <-timer.C:
			return protocol.Identity{}, errBusy
		case <-ctx.Done():
			return protocol.Identity{}, errBusy
		}
		known, running = i.start(of, token)
	}
	if known != nil {
		return known.identity, known.err
	}
	select {
	case <-running.done:
		return running.identity, running.err
	case <-ctx.Done():
		return protocol.Identity{}, notNow("gave up waiting for the token's issuer")
	}
}

// find returns what is known about a token, or else the lookup that is running, or else neither.
func (i *introspector) find(of digest) (*verdict, *lookup) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.findLocked(of)
}

func (i *introspector) findLocked(of digest) (*verdict, *lookup) {
	now := time.Now()
	for _, c := range []cache{i.valid, i.invalid} {
		if v, ok := c.get(of, now); ok {
			return &v, nil
		}
	}
	return nil, i.running[of]
}

// start starts a lookup, for which the caller has taken a slot, unless somebody else has done so meanwhile.
func (i *introspector) start(of digest, token string) (*verdict, *lookup) {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, running := i.findLocked(of)
	if known != nil || running != nil {
		<-i.slots
		return known, running
	}
	running = &lookup{done: make(chan struct{})}
	i.running[of] = running
	go i.look(of, token, running) // ends within the client's time-out
	return nil, running
}

// look makes a lookup, and gives back its slot.
func (i *introspector) look(of digest, token string, l *lookup) {
	claims, err := i.ask(token)
	now := time.Now()
	if err == nil {
		l.identity, l.until, l.err = i.judge(claims, now)
	} else {
		l.err = err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err == nil { // else the issuer said nothing about the token, so there is nothing to remember
		verdicts := i.valid
		if l.err != nil {
			verdicts = i.invalid
		}
		verdicts.put(of, l.verdict, now)
	}
	delete(i.running, of)
	<-i.slots
	close(l.done)
}

// ask asks the endpoint about a token. An error says that the endpoint did not answer.
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
	status, body, err := send(i.client, req)
	if err != nil {
		return nil, away
	}
	var claims map[string]json.RawMessage
	isObject := json.Unmarshal(body, &claims) == nil && claims != nil
	code := claim(claims["error"])
	switch {
	case status == http.StatusUnauthorized, code == "invalid_client", code == "unauthorized_client":
		return nil, notNow("the token's issuer does not know this service: check its client id and secret")
	case status != http.StatusOK:
		return nil, away
	case !isObject:
		return nil, notNow("the token's issuer did not answer with a JSON object")
	case code != "" && claims["active"] == nil: // an error with the status of a success says nothing about the token
		return nil, away
	}
	return claims, nil
}

// judge reads what the endpoint said (RFC 7662 section 2.2). It returns whose token it is or why it is not valid, and until when
// that may be remembered.
func (i *introspector) judge(claims map[string]json.RawMessage, now time.Time) (protocol.Identity, time.Time, error) {
	refuse := func(why string) (protocol.Identity, time.Time, error) {
		return protocol.Identity{}, now.Add(min(refusedKeep, i.config.Keep)), notValid(why)
	}
	until := now.Add(i.config.Keep)
	var active bool
	if json.Unmarshal(claims["active"], &active) != nil || !active {
		return refuse("it is not active")
	}
	// The issuer has judged the token's times already (active). So one that can't be read spoils nothing, but the token is soon
	// asked about again.
	expiry, ok := moment(claims["exp"])
	switch {
	case ok && !now.Before(expiry):
		return refuse("it has expired")
	case ok:
		until = earlier(until, expiry)
	case stated(claims["exp"]):
		until = earlier(until, now.Add(refusedKeep))
	}
	if start, ok := moment(claims["nbf"]); ok && now.Add(skew).Before(start) {
		return refuse("it is not valid yet")
	}
	if i.config.Issuer != "" && !keyset.IsIssuer(claim(claims["iss"]), i.config.Issuer) {
		return refuse("it is from another issuer")
	}
	if i.config.Audience != "" && !audience(claims["aud"], i.config.Audience) {
		return refuse("it is for another service")
	}
	return identityOf(claims), until, nil
}

// stated reports whether a value is there: null says no more than its absence.
func stated(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// moment reads a NumericDate (RFC 7519 section 2). Some issuers put it in quotes, or write a date in its place (RFC 3339).
func moment(raw json.RawMessage) (time.Time, bool) {
	words := strings.Trim(string(raw), `"`)
	if at, err := time.Parse(time.RFC3339, words); err == nil {
		return at, true
	}
	seconds, err := strconv.ParseFloat(words, 64)
	if err != nil || math.IsNaN(seconds) || seconds < 0 || seconds > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// audience reports whether aud, a string or a list of strings, has the name.
func audience(raw json.RawMessage, name string) bool {
	var one string
	return json.Unmarshal(raw, &one) == nil && one == name || slices.Contains(texts(raw), name)
}
