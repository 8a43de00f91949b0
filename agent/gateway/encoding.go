package gateway

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// compressing are headers by which a tool asks for an answer that is compressed within its protocol: the messages of a WebSocket
// (RFC 7692), of gRPC and of Connect, or the changes since an earlier answer (RFC 3229). A token could not be found in it.
var compressing = []string{"Sec-Websocket-Extensions", "Grpc-Accept-Encoding", "Connect-Accept-Encoding", "A-Im"}

// askReadable changes a request so that its answer can be searched for a token. What the tool accepts stays, as far as that can
// be read here.
func askReadable(h http.Header) {
	for _, name := range compressing {
		delete(h, name)
	}
	const accept = "Accept-Encoding"
	if values, ok := h[accept]; ok {
		readable := "identity"
		if h.Get("Range") == "" && acceptsGzip(strings.Join(values, ",")) { // a part of what is compressed can't be read
			readable = "gzip"
		}
		h[accept] = []string{readable}
	}
}

// acceptsGzip reports whether a list of encodings has gzip (RFC 9110 §12.5.3).
func acceptsGzip(list string) bool {
	for element := range strings.SplitSeq(list, ",") {
		name, weight, weighed := strings.Cut(element, ";")
		if !isGzip(name) {
			continue
		}
		_, value, _ := strings.Cut(weight, "=")
		if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); !weighed || err == nil && q > 0 {
			return true
		}
	}
	return false
}

func isGzip(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	return name == "gzip" || name == "x-gzip"
}

// readable makes the body of an answer one that can be searched. It returns why the answer is refused, nil if it is not.
func readable(resp *http.Response, method string) *refusal {
	encoding := strings.TrimSpace(strings.Join(resp.Header["Content-Encoding"], ","))
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode == http.StatusNotModified:
		return nil
	case encoding == "" || strings.EqualFold(encoding, "identity"):
		return nil
	case isGzip(encoding) && resp.StatusCode != http.StatusPartialContent:
		if method != http.MethodHead {
			resp.Body = &unzipped{body: resp.Body}
		}
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
		return nil
	case method == http.MethodHead || resp.StatusCode == http.StatusNoContent:
		return nil // there is no body
	}
	return &refusal{status: http.StatusBadGateway, kind: broken, message: fmt.Sprintf("the service has answered in an encoding "+
		"(%.40q) in which the gateway can't look for the token", encoding)}
}

// unzipped is a body without its compression.
type unzipped struct {
	body io.ReadCloser
	from *gzip.Reader // nil until the body is read: the header of an answer must not wait for it
}

func (u *unzipped) Read(p []byte) (int, error) {
	if u.from == nil {
		var err error
		if u.from, err = gzip.NewReader(u.body); err != nil {
			return 0, err // io.EOF if the body is empty
		}
	}
	return u.from.Read(p)
}

func (u *unzipped) Close() error { return u.body.Close() }
