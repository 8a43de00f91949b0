package place_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/ccagent/ccagent/place"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]place.Place{
		"bearer":               place.Bearer,
		"header:x-api-key":     place.Header("X-Api-Key"),
		"header:PRIVATE-TOKEN": place.Header("Private-Token"),
		"basic:x-access-token": place.Basic("x-access-token"),
		"query:key":            place.Query("key"),
	} {
		got, err := place.Parse(written)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", written, got, err)
		}
		if again, err := place.Parse(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which is read as %v, %v", written, got, again, err)
		}
	}
	for _, written := range []string{
		"", "Bearer", "bearer:", "bearer:x", "header", "header:", "header:a b", "header:x:y", "header:Host", "header:content-length",
		"header:Cookie", "header:Ä", "basic", "basic:", "basic:a:b", "basic:a\n", "query:", "query:a&b", "query:a=b", "query:a%20",
		"cookie:session",
	} {
		if got, err := place.Parse(written); err == nil {
			t.Errorf("%q is read as %v", written, got)
		}
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		place               place.Place
		header, want, query string
	}{
		{place.Bearer, "Authorization", "Bearer fake-1", "a=%2f&key=fake-old&b"},
		{place.Header("x-api-key"), "X-Api-Key", "fake-1", "a=%2f&key=fake-old&b"},
		{place.Basic("x"), "Authorization", "Basic eDpmYWtlLTE=", "a=%2f&key=fake-old&b"},
		{place.Query("key"), "", "", "a=%2f&b&key=fake-1"},
	} {
		u := &url.URL{Path: "/", RawQuery: "a=%2f&key=fake-old&b"}
		h := http.Header{"Authorization": {"Bearer fake-old", "Bearer fake-older"}, "X-Api-Key": {"fake-old"}, "Accept": {"x"}}
		tt.place.Put(h, u, "fake-1")
		if u.RawQuery != tt.query || tt.header != "" && (len(h[tt.header]) != 1 || h[tt.header][0] != tt.want) || len(h) != 3 {
			t.Errorf("%v: %s, %q", tt.place, u.RawQuery, h)
		}
		if tt.place.Header() != tt.header {
			t.Errorf("%v is said to be in header %q", tt.place, tt.place.Header())
		}
	}
	u := &url.URL{}
	place.Query("key").Put(nil, u, "a b&c=d")
	if u.RawQuery != "key=a+b%26c%3Dd" {
		t.Error(u.RawQuery)
	}
}

func TestWithout(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"":                   "",
		"key=1":              "",
		"a=1&key=1":          "a=1",
		"key=1&a=1":          "a=1",
		"a=1&key=1;b=2":      "a=1;b=2",
		"a=1;key=1&b=2&key":  "a=1&b=2",
		"%6bey=1&x=%zz&a=%2": "x=%zz&a=%2",
		"a=1&&b=+":           "a=1&&b=+",
		"kéy=1":              "kéy=1",
	} {
		if got := place.Without(query, func(name, _ string) bool { return name == "key" }); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
}
