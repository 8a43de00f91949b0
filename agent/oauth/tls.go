package oauth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ccagent/ccagent/protocol"
)

// ParseCA reads certificate authorities in PEM, for [Client.CA]. It fails with ErrConfig where data holds no certificate, one
// that can't be read, or none that is in force.
func ParseCA(data []byte) (*x509.CertPool, error) {
	pool, found, expired := x509.NewCertPool(), 0, 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badTLS("the file of certificate authorities holds a certificate that can't be read")
		}
		if found++; now().After(cert.NotAfter) {
			expired++
		}
		pool.AddCert(cert)
	}
	switch {
	case found == 0:
		return nil, badTLS("the file of certificate authorities holds no certificate in PEM (BEGIN CERTIFICATE)")
	case found == expired:
		return nil, badTLS("the certificate authorities are all expired")
	}
	return pool, nil
}

// ParseCertificate reads a certificate (its chain after it) and its key in PEM, for [Client.Certificate]. It fails with
// ErrConfig where one can't be read, they don't belong together, or the certificate is not in force.
func ParseCertificate(cert, key []byte) (*tls.Certificate, error) {
	if block, _ := pem.Decode(cert); block == nil {
		return nil, badTLS("the client's certificate is not PEM (BEGIN CERTIFICATE)")
	}
	if block, _ := pem.Decode(key); block == nil {
		return nil, badTLS("the key of the client's certificate is not PEM (BEGIN PRIVATE KEY)")
	}
	pair, err := tls.X509KeyPair(cert, key) // its text quotes nothing of the key, but need not stay so
	if err != nil {
		return nil, badTLS("the client's certificate and its key can't be used together")
	}
	switch at := now(); {
	case at.After(pair.Leaf.NotAfter):
		return nil, badTLS("the client's certificate expired on " + pair.Leaf.NotAfter.Format("2006-01-02"))
	case at.Before(pair.Leaf.NotBefore):
		return nil, badTLS("the client's certificate is not in force before " + pair.Leaf.NotBefore.Format("2006-01-02"))
	}
	return &pair, nil
}

func badTLS(message string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: message}
}

// tls is what a server is judged by, and what it is shown.
func (c *Client) tls() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.CA}
	if c.Certificate != nil {
		config.Certificates = []tls.Certificate{*c.Certificate}
	}
	return config
}

var errProxy = errors.New("the proxy's address can't be used")

// proxyRefused is the status with which a proxy answered CONNECT.
type proxyRefused int

func (p proxyRefused) Error() string { return fmt.Sprintf("the proxy answers %d", int(p)) }

// proxyOf is the proxy of a request: the client's own, else that of the environment. net/http's error would quote the
// address, which may hold a password.
func (c *Client) proxyOf(req *http.Request) (*url.URL, error) {
	if c.Proxy != nil {
		return c.Proxy, nil
	}
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return nil, errProxy
	}
	return proxy, nil
}
