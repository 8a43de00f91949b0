package httpauth

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/place"
	"github.com/ccagent/ccagent/protocol"
)

// picky is a server that refuses one token, before or after it has read the body, and notes the bodies that it accepts.
type picky struct {
	early  bool
	status int
	gate   *sync.WaitGroup // all refusals wait for each other; nil: none does

	mu       sync.Mutex
	refusals int
	bodies   [][]byte
}

func (p *picky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body []byte
	bad := r.Header.Get("Authorization") == "Bearer fake-old"
	if !bad || !p.early {
		body, _ = io.ReadAll(r.Body)
	}
	if bad {
		p.mu.Lock()
		p.refusals++
		p.mu.Unlock()
		if p.gate != nil {
			p.gate.Done()
			p.gate.Wait()
		}
		http.Error(w, "fake refusal", p.status)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodies = append(p.bodies, body)
}

// watched is a body that can't be sent again, and notes that it was closed.
type watched struct {
	io.Reader
	closed chan struct{}
	once   sync.Once
}

func (w *watched) Close() error { w.once.Do(func() { close(w.closed) }); return nil }

func watch(r io.Reader) *watched { return &watched{Reader: r, closed: make(chan struct{})} }

func post(t *testing.T, client *http.Client, target string, body io.Reader) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", target, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestTransportRecords: a body that can't be sent again by itself is kept while it is sent, up to a limit, and is closed in any
// case.
func TestTransportRecords(t *testing.T) {
	t.Parallel()
	text := make([]byte, 3<<20)
	rand.Read(text)
	for _, tt := range []struct {
		name   string
		size   int
		early  bool
		status int
		want   int
	}{
		{"empty", 0, false, 401, 200},
		{"small", 10, false, 401, 200},
		{"as large as it may be", maxRecorded, false, 401, 200},
		{"too large", maxRecorded + 1, false, 401, 401},
		{"refused before it is read", 100 << 10, true, 401, 200},
		{"another status", 10, false, 403, 403},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				p := &picky{early: tt.early, status: tt.status}
				server := httptest.NewUnstartedServer(p)
				server.EnableHTTP2 = h2
				server.StartTLS()
				defer server.Close()
				a := NewAgent(&forced{tokens: []string{"fake-old", "fake-good"}}, "")
				defer a.Close()
				transport := &Transport{Agent: a, Base: server.Client().Transport, RecordBodies: true}
				body := watch(iotest.HalfReader(bytes.NewReader(text[:tt.size])))
				got := post(t, &http.Client{Transport: transport}, server.URL, body)
				if got != tt.want || p.refusals != 1 {
					t.Errorf("status %d after %d refusals, want %d", got, p.refusals, tt.want)
				}
				if tt.want == 200 && (len(p.bodies) != 1 || !bytes.Equal(p.bodies[0], text[:tt.size])) {
					t.Errorf("the server did not get the body again")
				}
				<-body.closed
				if kept := transport.recorded.Load(); kept != 0 {
					t.Errorf("%d bytes are kept afterwards", kept)
				}
			})
		}
	}
}

// TestTransportRecordsWhatWasLeft: what the first sending has not read is read by the second, also while a read is under way.
func TestTransportRecordsWhatWasLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, sendsWhatWasLeft)
}

func sendsWhatWasLeft(t *testing.T) {
	const begin, rest = "fake begin ", "fake rest"
	reader, writer := io.Pipe()
	defer writer.Close()
	a := NewAgent(&forced{tokens: []string{"fake-old", "fake-good"}}, "")
	defer a.Close()
	got, reads := make(chan string, 1), make(chan error, 1)
	transport := &Transport{Agent: a, RecordBodies: true, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}}
		if req.Header.Get("Authorization") == "Bearer fake-good" {
			go func() { // as a real transport may, it has the answer before it has sent the body
				time.Sleep(time.Second)
				go writer.Write([]byte(rest))
				sent := make([]byte, len(begin+rest))
				_, err := io.ReadFull(req.Body, sent)
				if err = errors.Join(err, req.Body.Close()); err != nil {
					t.Error(err)
				}
				got <- string(sent)
			}()
			return resp, nil
		}
		go writer.Write([]byte(begin))
		if _, err := io.ReadFull(req.Body, make([]byte, len(begin))); err != nil {
			t.Error(err)
		}
		go func() { // as a real transport may, it reads on while the refusal is there already
			_, err := io.Copy(io.Discard, req.Body)
			reads <- errors.Join(err, req.Body.Close())
		}()
		synctest.Wait() // until it reads
		resp.StatusCode = 401
		return resp, nil
	})}
	transport.recorded.Store(maxAllRecorded - int64(len(begin))) // what is under way must be kept although there is no more room
	if status := post(t, &http.Client{Transport: transport}, "https://llm.example.com/", body{reader}); status != 200 {
		t.Error(status)
	}
	if sent := <-got; sent != begin+rest {
		t.Errorf("sent again: %q", sent)
	}
	if err := <-reads; !errors.Is(err, errDetached) {
		t.Errorf("the first sending ended with %v", err)
	}
}

// TestTransportRecordsInAll: what is kept of all bodies is bounded, and one renewal serves all who were refused.
func TestTransportRecordsInAll(t *testing.T) {
	t.Parallel()
	const requests = maxAllRecorded/maxRecorded + 6
	p := &picky{status: 401, gate: &sync.WaitGroup{}}
	p.gate.Add(requests)
	server := httptest.NewServer(p)
	defer server.Close()
	f := &forced{tokens: []string{"fake-old", "fake-good"}}
	a := NewAgent(f, "")
	defer a.Close()
	base := server.Client().Transport.(*http.Transport)
	transport := &Transport{Agent: a, Base: base, RecordBodies: true}
	text := strings.Repeat("fake", maxRecorded/4)
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			status := post(t, &http.Client{Transport: transport}, server.URL, body{strings.NewReader(text)})
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	all.Wait()
	// A body that would pass the limit is given up, and its memory with it: so a few less than fit can be kept.
	if statuses[200]+statuses[401] != requests || statuses[200] > maxAllRecorded/maxRecorded || statuses[200] == 0 {
		t.Errorf("statuses %v", statuses)
	}
	if f.forced != 1 || transport.recorded.Load() != 0 {
		t.Errorf("%d renewals, %d bytes kept", f.forced, transport.recorded.Load())
	}
}

func TestTransportPlaces(t *testing.T) {
	t.Parallel()
	for _, p := range []place.Place{place.Bearer, place.Header("x-api-key"), place.Basic("x-access-token"), place.Query("key")} {
		a := NewAgent(&forced{tokens: []string{"fake-old", "fake-good"}}, "")
		defer a.Close()
		sent := 0
		broken := errors.New("connection refused")
		transport := &Transport{Agent: a, Place: p, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
			sent++
			want := *req
			target := *req.URL
			want.Header, want.URL = http.Header{"Accept": {"fake"}}, &target
			p.Put(want.Header, want.URL, []string{"fake-old", "fake-good", "fake-good"}[sent-1])
			if want.URL.String() != req.URL.String() || len(want.Header) != len(req.Header) ||
				p.Header() != "" && want.Header.Get(p.Header()) != req.Header.Get(p.Header()) {
				t.Errorf("%v: sent to %s with %q", p, req.URL, req.Header)
			}
			if sent == 3 {
				return nil, broken
			}
			return &http.Response{StatusCode: 402 - sent%2, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
		})}
		var renewed []error
		transport.Renewed = func(_ *http.Request, err error) { renewed = append(renewed, err) }
		req, err := http.NewRequest("GET", "https://llm.example.com/x?a=%2f&key=fake-of-the-caller", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "fake")
		resp, err := transport.RoundTrip(req)
		if err != nil || resp.StatusCode != 402 || sent != 2 || len(renewed) != 1 || renewed[0] != nil {
			t.Errorf("%v: %v, %v after %d, %v", p, resp, err, sent, renewed)
		}
		if resp.Request != req || req.URL.RawQuery != "a=%2f&key=fake-of-the-caller" || len(req.Header) != 1 {
			t.Errorf("%v: the caller's request was changed", p)
		}
		client := &http.Client{Transport: transport}
		if _, err := client.Do(req); !errors.Is(err, broken) || strings.Contains(err.Error(), "fake-good") {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// TestTransportRenewOn: which statuses mean that the token is refused, and why there is no other token.
func TestTransportRenewOn(t *testing.T) {
	t.Parallel()
	out := &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out"}
	f := &forced{tokens: []string{"fake-old"}, err: out}
	a := NewAgent(f, "")
	defer a.Close()
	status := 403
	var renewed []error
	transport := &Transport{Agent: a, RenewOn: []int{403},
		Renewed: func(_ *http.Request, err error) { renewed = append(renewed, err) },
		Base: roundTrip(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Body: http.NoBody, Header: http.Header{}}, nil
		})}
	client := &http.Client{Transport: transport}
	for range 2 { // the second time nobody is asked again
		if got := post(t, client, "https://llm.example.com/", nil); got != 403 {
			t.Error(got)
		}
	}
	status = 401
	if got := post(t, client, "https://llm.example.com/", nil); got != 401 {
		t.Error(got)
	}
	if f.forced != 1 || len(renewed) != 2 || !errors.Is(renewed[0], protocol.ErrLoginRequired) ||
		!errors.Is(renewed[1], protocol.ErrLoginRequired) {
		t.Errorf("%d renewals, %v", f.forced, renewed)
	}
}
