package scrub

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
)

const secret = "fake-access+token/of~40_bytes-AbCdEf09=="

// forms are the ways in which a server may repeat a secret.
func forms(secret string) map[string]string {
	all := map[string]string{
		"raw":           secret,
		"query":         url.QueryEscape(secret),
		"path":          url.PathEscape(secret),
		"basic":         base64.StdEncoding.EncodeToString([]byte("x-access-token:" + secret)),
		"basic in JSON": strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte("user:"+secret)), "/", `\/`),
		"basic in URL":  url.QueryEscape(base64.StdEncoding.EncodeToString([]byte("me:" + secret))),
		"JSON slashes":  strings.ReplaceAll(secret, "/", `\/`),
		"JSON .NET":     strings.ReplaceAll(strings.ReplaceAll(secret, "+", `\u002B`), "=", `\u003D`),
		"double prefix": secret[:9] + secret,
	}
	for i, format := range []string{"%%%02x", "%%%02X", `\u00%02x`, `\u00%02X`} {
		var b strings.Builder
		for j := range len(secret) {
			fmt.Fprintf(&b, format, secret[j])
		}
		all[fmt.Sprint("each byte escaped ", i)] = b.String()
	}
	for before := range 6 {
		text := []byte(strings.Repeat("u", before) + secret + "after")
		all[fmt.Sprint("base64 at ", before)] = base64.StdEncoding.EncodeToString(text)
		all[fmt.Sprint("base64url at ", before)] = base64.RawURLEncoding.EncodeToString(text)
	}
	return all
}

// reads gives out chunks, one at each Read.
type reads struct{ chunks []string }

func (r *reads) Read(p []byte) (int, error) {
	if len(r.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.chunks[0])
	if r.chunks[0] = r.chunks[0][n:]; r.chunks[0] == "" {
		r.chunks = r.chunks[1:]
	}
	return n, nil
}

func read(t testing.TB, s *Scrubber, chunks ...string) string {
	t.Helper()
	got, err := io.ReadAll(s.Reader(io.NopCloser(&reads{chunks})))
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// leaks returns a part of a secret that is in a text, in any of its forms.
func leaks(text, secret string) string {
	parts := []string{secret, url.QueryEscape(secret), strings.ReplaceAll(secret, "/", `\/`)}
	for before := range 3 {
		for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			encoded := alphabet.EncodeToString([]byte("++"[:before] + secret))
			parts = append(parts, encoded[4:len(encoded)-4])
		}
	}
	text = strings.ReplaceAll(text, `\u00`, "%")
	if plain, err := url.PathUnescape(text); err == nil {
		text += " " + plain
	}
	for _, part := range parts {
		for i := 0; i+12 <= len(part); i++ {
			if strings.Contains(text, part[i:i+12]) {
				return part[i : i+12]
			}
		}
	}
	return ""
}

// TestEveryFormAtEverySplit: no form of a secret gets through, wherever the stream is cut, and all around it stays as it was.
func TestEveryFormAtEverySplit(t *testing.T) {
	t.Parallel()
	s := New(secret)
	filler := strings.Repeat("filler text \\n 100% \\u00e4 fak ", 40)
	for name, form := range forms(secret) {
		for _, around := range []string{"", "{\"echo\": \"", filler} {
			text := around + form + around
			whole := read(t, s, text)
			if leak := leaks(whole, secret); leak != "" || len(whole) != len(text) {
				t.Fatalf("%s: %s gets through: %q", name, leak, whole)
			}
			if n := len(around); whole[:n] != around || whole[len(whole)-n:] != around {
				t.Fatalf("%s: what is around it has changed: %q", name, whole)
			}
			if masked := around + strings.Repeat("x", len(form)) + around; name == "raw" && whole != masked {
				t.Fatalf("%q came out as %q", text, whole)
			}
			for i := len(around); i <= len(around)+len(form); i++ {
				got := read(t, s, text[:i], text[i:])
				if leak := leaks(got, secret); leak != "" || len(got) != len(text) || got[:len(around)] != around ||
					got[len(got)-len(around):] != around {
					t.Fatalf("%s cut at %d: %s gets through: %q", name, i, leak, got)
				}
			}
			got, err := io.ReadAll(s.Reader(io.NopCloser(iotest.OneByteReader(strings.NewReader(text)))))
			if err != nil || leaks(string(got), secret) != "" || len(got) != len(text) {
				t.Fatalf("%s byte by byte: %q, %v", name, got, err)
			}
		}
	}
}

// TestMixedForms: bytes that are escaped in some places and not in others, in chunks of any size.
func TestMixedForms(t *testing.T) {
	t.Parallel()
	s := New(secret)
	random := rand.New(rand.NewPCG(3, 4))
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	for range 20_000 {
		plain := []string{secret, encoded[:len(encoded)-3]}[random.IntN(2)]
		rare := random.IntN(40) + 1
		var form strings.Builder
		for i := range len(plain) {
			switch c := plain[i]; {
			case random.IntN(rare) > 0:
				form.WriteByte(c)
			case random.IntN(2) == 0:
				fmt.Fprintf(&form, "%%%02x", c)
			default:
				fmt.Fprintf(&form, `\u00%02X`, c)
			}
		}
		before, after := strings.Repeat(".", random.IntN(70)), strings.Repeat(".", random.IntN(70))
		text := before + form.String() + after
		cut := random.IntN(len(text))
		want := before + strings.Repeat("x", form.Len()) + after
		if got := read(t, s, text[:cut], text[cut:]); got != want && strings.Trim(got, "x.") != "" {
			chunk := max(0, len(text[:cut])-len(before)) // the first bytes are passed on at the end of a chunk
			if chunk > 3 || !strings.HasPrefix(got, before+form.String()[:chunk]) || strings.Trim(got[len(before)+chunk:], "x.") != "" {
				t.Fatalf("%q cut at %d came out as %q", text, cut, got)
			}
		}
	}
}

// TestCutWithinAnEscape: a chunk ends in the middle of a secret's first escaped byte, wherever in the chunk the secret began.
func TestCutWithinAnEscape(t *testing.T) {
	t.Parallel()
	s := New(secret)
	for plain := range 30 {
		for padding := range 60 {
			start := strings.Repeat(".", padding) + secret[:plain]
			text := start + fmt.Sprintf(`\u00%02x`, secret[plain]) + secret[plain+1:]
			if got := read(t, s, text[:len(start)+5], text[len(start)+5:]); strings.Trim(got, "x.") != "" {
				t.Fatalf("%q came out as %q", text, got)
			}
		}
	}
}

// TestNothingElseChanges: bytes without a secret come out as they went in, in chunks of any size.
func TestNothingElseChanges(t *testing.T) {
	t.Parallel()
	s := New(secret, "fake-other-token-0123456789")
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		text := make([]byte, random.IntN(100_000))
		for i := 0; i < len(text); {
			switch random.IntN(4) {
			case 0: // any bytes
				for end := min(len(text), i+random.IntN(2000)+1); i < end; i++ {
					text[i] = byte(random.Uint32())
				}
			case 1: // almost the secret
				i += copy(text[i:], secret[:random.IntN(len(secret))])
			case 2: // almost an encoded one
				form := base64.StdEncoding.EncodeToString([]byte(secret))
				i += copy(text[i:], form[random.IntN(10)+4:])
			default:
				i += copy(text[i:], `\u006`)
			}
		}
		got, err := io.ReadAll(s.Reader(io.NopCloser(&ragged{text, random})))
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%d bytes came out as %d others, %v", len(text), len(got), err)
		}
	}
}

// ragged gives out chunks of any size.
type ragged struct {
	text   []byte
	random *rand.Rand
}

func (r *ragged) Read(p []byte) (int, error) {
	if len(r.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.random.IntN(40_000)+1)], r.text)
	r.text = r.text[n:]
	return n, nil
}

// TestNoDelay: a chunk of a stream is given out before the next one comes, also where it ends like a secret begins.
func TestNoDelay(t *testing.T) {
	t.Parallel()
	server, client := io.Pipe()
	clean := New(secret).Reader(server)
	defer clean.Close()
	for _, chunk := range []string{"data: hello\n\n", "data: fak", "e\n\n", "f"} {
		go client.Write([]byte(chunk))
		got := make([]byte, len(chunk))
		if _, err := io.ReadFull(clean, got); err != nil || string(got) != chunk {
			t.Fatalf("%q came out as %q, %v", chunk, got, err)
		}
	}
}

// TestString: a header field's value.
func TestString(t *testing.T) {
	t.Parallel()
	s := New(secret, "short")
	for name, form := range forms(secret) {
		got := s.String("Bearer " + form + "; short")
		if leaks(got, secret) != "" || !strings.HasPrefix(got, "Bearer ") || !strings.HasSuffix(got, "; short") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := s.String("https://example.com/?code=fake"); got != "https://example.com/?code=fake" {
		t.Errorf("a value without a secret became %q", got)
	}
}

// TestUpgrade: what follows a switch of protocols can be written to, and closes what it reads from.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	server, client := io.Pipe()
	both := struct {
		io.Reader
		io.WriteCloser
	}{strings.NewReader(secret), client}
	go func() {
		clean := New(secret).Reader(both).(io.ReadWriteCloser)
		clean.Write([]byte("hello"))
		clean.Close()
	}()
	if got, err := io.ReadAll(server); string(got) != "hello" || err != nil {
		t.Errorf("the other side got %q, %v", got, err)
	}
}

// FuzzScrub: no secret gets through as it is, whatever surrounds it and wherever the stream is cut, and nothing else changes.
func FuzzScrub(f *testing.F) {
	f.Add([]byte("before"), []byte("after"), 3, 20)
	f.Add([]byte(secret[:20]), []byte("%41"), 30, 2000)
	f.Fuzz(func(t *testing.T, before, after []byte, cut, repeat int) {
		before = bytes.Repeat(before, min(max(repeat, 0), 2000)%50)
		text := string(before) + secret + string(after)
		cut = min(max(cut, 0), len(text))
		got := read(t, New(secret), text[:cut], text[cut:])
		if strings.Contains(got, secret) || len(got) != len(text) {
			t.Fatalf("got %q", got)
		}
		if !bytes.Contains([]byte(text[:len(before)+8]), []byte(secret)) && !strings.HasPrefix(got, string(before)) &&
			leaks(string(before), secret) == "" {
			t.Fatalf("what was before it changed: %q", got)
		}
	})
}

// BenchmarkReader is what the search costs, by what the stream is made of.
func BenchmarkReader(b *testing.B) {
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	jwt := "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(random[:1100])
	text := []byte(strings.Repeat(`{"type":"content_block_delta","delta":{"text":"Hello\n\tworld, fine (100%)"}}`, 14000))
	for _, bench := range []struct {
		name   string
		secret string
		body   []byte
	}{{"random", secret, random}, {"random-jwt", jwt, random}, {"JSON", secret, text}, {"JSON-jwt", jwt, text}} {
		b.Run(bench.name, func(b *testing.B) {
			s := New(bench.secret)
			b.SetBytes(int64(len(bench.body)))
			buf := make([]byte, 32<<10)
			for b.Loop() {
				r := s.Reader(io.NopCloser(bytes.NewReader(bench.body)))
				for {
					if _, err := r.Read(buf); err != nil {
						break
					}
				}
			}
		})
	}
}
