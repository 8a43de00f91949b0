package protocol

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestReadFrame(t *testing.T) {
	t.Parallel()
	long := append([]byte{0, 1, 0, 0}, make([]byte, 65536)...)
	for name, test := range map[string]struct {
		stream []byte
		want   int // bytes of the payload
		err    error
	}{
		"nothing":        {nil, 0, io.EOF},
		"half a length":  {[]byte{0, 0}, 0, io.ErrUnexpectedEOF},
		"length alone":   {[]byte{0, 0, 0, 2}, 0, io.ErrUnexpectedEOF},
		"half a payload": {[]byte{0, 0, 0, 2, 1}, 0, io.ErrUnexpectedEOF},
		"length 0":       {[]byte{0, 0, 0, 0}, 0, ErrFrame},
		"length 1":       {[]byte{0, 0, 0, 1, 1}, 0, ErrFrame},
		"length 65537":   {[]byte{0, 1, 0, 1}, 0, ErrFrame},
		"length 4 GiB":   {[]byte{255, 255, 255, 255}, 0, ErrFrame},
		"shortest":       {[]byte{0, 0, 0, 2, 1, 4}, 2, nil},
		"longest":        {long, 65536, nil},
	} {
		payload, err := ReadFrame(iotest.OneByteReader(bytes.NewReader(test.stream)), nil, MaxFrame)
		if len(payload) != test.want || err != test.err {
			t.Errorf("%s: %d bytes, %v; want %d, %v", name, len(payload), err, test.want, test.err)
		}
	}
}

func TestReadFrameReusesBuffer(t *testing.T) { // not parallel: it counts
	frame := AppendError(nil, errNobody)
	r := bytes.NewReader(frame)
	buf := make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		r.Reset(frame)
		buf, _ = ReadFrame(r, buf, MaxFrame)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A malformed frame gets an error reply of code 1, and Handle says that the connection must be closed.
func TestHandleMalformed(t *testing.T) {
	t.Parallel()
	whole, _ := AppendTokenRequest(nil, TokenRequest{Profile: "claude"})
	whole = whole[headerSize:]
	edit := func(at int, to ...byte) []byte {
		b := bytes.Clone(whole)
		copy(b[at:], to)
		return b
	}
	for name, payload := range map[string][]byte{
		"empty":             {},
		"one byte":          {1},
		"version 2":         edit(0, 2),
		"version 0":         edit(0, 0),
		"op 0":              edit(1, 0),
		"op of a reply":     edit(1, 129),
		"op error":          edit(1, 255),
		"no fields":         {1, 1},
		"one byte short":    whole[:len(whole)-1],
		"string of 4 GiB":   edit(2, 255, 255, 255, 255),
		"string beyond end": edit(2, 0, 0, 1, 0),
		"endless min_ttl":   edit(12, 255),
		"status, no fields": {1, 2},
		"put, no fields":    {1, 3},
		"control, 3 bytes":  {1, 4, 0, 0, 0},
	} {
		reply, err := Handle(t.Context(), nobody{}, payload, nil)
		if err == nil {
			t.Errorf("%s: understood", name)
		}
		wantErrorReply(t, name, reply, CodeInternal)
	}

	// Bytes after the known fields are from a newer sender, and ignored.
	known, err := AppendTokenRequest(nil, TokenRequest{Profile: "claude", Home: Home{Dir: "/work"}, Username: "alice",
		Derived: Derived{Scope: "a", Audience: "b", Resource: "https://c.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := Handle(t.Context(), nobody{}, append(known[4:], "more"...), nil)
	if err != nil {
		t.Error(err)
	}
	wantErrorReply(t, "more fields", reply, CodeNotFound)
}

func TestHandleProfileNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a/b", "a..b", "../x", "a\x00", ".a", "ä", strings.Repeat("a", 65)} {
		frame, _ := AppendTokenRequest(nil, TokenRequest{Profile: name})
		reply, err := Handle(t.Context(), nobody{}, frame[headerSize:], nil)
		if err != nil {
			t.Errorf("%q: %v", name, err)
		}
		wantErrorReply(t, name, reply, CodeConfig)
	}
}

func wantErrorReply(t *testing.T, name string, reply []byte, code Code) {
	t.Helper()
	op, d, err := OpenFrame(reply[headerSize:])
	if err != nil || op != OpError {
		t.Errorf("%s: reply %x, %v", name, reply, err)
		return
	}
	if got := decodeError(&d); CodeOf(got) != code {
		t.Errorf("%s: code %d (%v), want %d", name, CodeOf(got), got, code)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) { // not parallel: it counts
	frame, _ := AppendTokenRequest(nil, TokenRequest{
		Profile: "claude", Host: "api.example.com", Home: Home{Home: "/home/alice"},
	})
	reply := AppendToken(nil, Token{Profile: "claude", Value: NewSecret("fake-access-1"), Kind: KindOAuth})
	out := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		r, err := DecodeTokenRequest(frame[headerSize:])
		if err != nil || FoldProfile(r.Profile) != "claude" || CheckProfile(r.Profile) != nil {
			t.Error(r, err)
		}
		out = append(out[:0], reply...)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	for _, test := range []struct{ in, out time.Time }{
		{time.Time{}, time.Time{}},
		{at(1767225600123), at(1767225600123)},
		{time.Unix(1767225600, 123456789), at(1767225600123)},
		{at(0), at(0)},
		{at(-1), at(0)},
		{at(MaxTime), at(MaxTime)},
		{at(MaxTime + 1), at(MaxTime)},
	} {
		e := NewFrame(nil, 1)
		e.Time(test.in)
		d := NewDecoder(e.b[6:])
		if got := d.Time(); !got.Equal(test.out) || d.Err() != nil {
			t.Errorf("%v came out as %v, %v; want %v", test.in, got, d.Err(), test.out)
		}
	}
	for _, ms := range []uint64{MaxTime + 1, 1 << 63, 1<<64 - 1} {
		e := NewFrame(nil, 1)
		e.Uint64(ms)
		d := NewDecoder(e.b[6:])
		if got := d.Time(); d.Err() != ErrMalformed {
			t.Errorf("%d is %v, %v", ms, got, d.Err())
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]time.Duration{
		0:                       0,
		-time.Second:            0,
		time.Nanosecond:         time.Millisecond, // rounded up
		1500 * time.Microsecond: 2 * time.Millisecond,
		time.Hour:               time.Hour,
		1<<63 - 1:               time.Duration(maxSpan) * time.Millisecond,
	} {
		e := NewFrame(nil, 1)
		e.Duration(in)
		d := NewDecoder(e.b[6:])
		if got := d.Duration(); got != want || d.Err() != nil {
			t.Errorf("%v came out as %v, %v; want %v", in, got, d.Err(), want)
		}
	}
}

func TestDecoderCounts(t *testing.T) {
	t.Parallel()
	d := NewDecoder([]byte{255, 255, 255, 255, 0, 0, 0, 0})
	if got := d.Strings(); got != nil || d.Err() != ErrMalformed {
		t.Errorf("four thousand million strings: %v, %v", got, d.Err())
	}
	if d.Uint64() != 0 || d.String() != "" || d.More() {
		t.Error("a failed decoder goes on")
	}
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"x", "sk-fake~!'\"\\", strings.Repeat("a", MaxToken)} {
		if err := CheckToken(NewSecret(good)); err != nil {
			t.Errorf("%.20q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a b", "a\n", "\x1b[2J", "a\x7f", "a\x00", "ä", strings.Repeat("a", MaxToken+1)} {
		if err := CheckToken(NewSecret(bad)); CodeOf(err) != CodeInvalid {
			t.Errorf("%.20q: %v", bad, err)
		}
		wantErrorReply(t, bad, AppendToken(nil, Token{Value: NewSecret(bad)}), CodeInvalid)
	}
}

// The document has the numbers of the code, and so has TokenForm.
func TestLimitsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| a token | " + strconv.Itoa(MaxToken) + " bytes |",
		"token        1 to " + strconv.Itoa(MaxToken) + " bytes of printable ASCII without the space (0x21 to 0x7e)",
		"| a frame | " + strconv.Itoa(MaxFrame) + " bytes after its length |",
		"other text for a person | " + strconv.Itoa(maxText) + " bytes, a location " + strconv.Itoa(maxPath) + ";",
		"read by the agent | " + strconv.Itoa(int(FrameTimeout.Seconds())) + " s,",
		"| a connection without a frame | " + strconv.Itoa(int(IdleTimeout.Seconds())) + " s,",
		"| connections to one agent | " + strconv.Itoa(MaxConnections) + ";",
		"milliseconds since 1970-01-01T00:00:00Z, 0 to " + strconv.Itoa(MaxTime) + " ",
		"or " + strconv.Itoa(NoTime) + " (2^63-1)",
		"milliseconds, at most " + strconv.FormatInt(maxSpan, 10),
		"grant a `min_ttl` of " + strconv.Itoa(int(Margin.Minutes())) + " minutes at most",
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("docs/protocol.md does not say: %s", line)
		}
	}
	if !strings.Contains(TokenForm, " "+strconv.Itoa(MaxToken)+" characters") {
		t.Error(TokenForm)
	}
	if long := TooLong(strings.Repeat("f", MaxToken+1)); !strings.Contains(long, " "+strconv.Itoa(MaxToken)+" that") {
		t.Error(long)
	}
}

func TestErrorsCross(t *testing.T) {
	t.Parallel()
	for _, c := range conditions() {
		frame := AppendError(nil, &Error{Code: c.code, Message: "what\x1b[2J happened\n", Hint: "do\tthis\nthen that"})
		_, d, _ := OpenFrame(frame[headerSize:])
		err := decodeError(&d)
		if err.Error() != "what [2J happened " || HintOf(err) != "do this\nthen that" || ExitCode(err) != c.exit {
			t.Errorf("%v became %#v", c.is, err)
		}
		if !errors.Is(err, c.is) {
			t.Errorf("%v is not %v", err, c.is)
		}
	}
	frame := AppendError(nil, &Error{Message: strings.Repeat("ä", 9999), Hint: strings.Repeat("x\n", 99999)})
	if len(frame) > 2*maxText+100 {
		t.Errorf("an error of %d bytes", len(frame))
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	got := Explain(&Error{Code: CodeNoAgent, Message: "no agent", Hint: "start one\nor two"})
	if want := "ccagent: no agent\nhint: start one\nhint: or two\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Explain(ErrNoAgent), "ccagent: no agent\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProfileNames(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "0", "Claude", "a.b-c_d.", strings.Repeat("a", 64)} {
		if err := CheckProfile(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "-a", "_a", "a..b", "a/b", "a b", "a\x00", "ä", "a\n", strings.Repeat("a", 65)} {
		if err := CheckProfile(bad); CodeOf(err) != CodeConfig {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for in, want := range map[string]string{"claude": "claude", "ClauDE": "claude", "": "", "A": "a"} {
		if got := FoldProfile(in); got != want {
			t.Errorf("%q folds to %q", in, got)
		}
	}
}
