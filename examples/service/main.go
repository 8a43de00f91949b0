// Command service answers requests that carry one of the tokens in a file, or a token that a company's identity provider has
// signed for it, and says whose token it is. You can edit the file while the service runs. A change counts within a second.
//
//	go run ./examples/service -tokens tokens.txt -issuer https://sso.example.com -audience service
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/ccagent/ccagent/agent/httpauth"
)

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "`address` to listen on")
	tokens := flag.String("tokens", "", "`file` of accepted tokens, one a line")
	issuer := flag.String("issuer", "", "`URL` of the issuer of other tokens; none if empty")
	audience := flag.String("audience", "service", "what the issuer calls this service")
	flag.Parse()
	handler, err := service(*tokens, *issuer, *audience)
	if err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(2)
	}
	log.Fatal(http.ListenAndServe(*address, handler))
}

func service(tokens, issuer, audience string) (http.Handler, error) {
	policy := httpauth.Policy{Mode: httpauth.Bearer, TokenFile: tokens, Realm: "example"}
	if issuer != "" {
		v, err := httpauth.NewJWT(httpauth.JWT{Issuer: issuer, Audience: audience})
		if err != nil {
			return nil, err
		}
		policy.Validators = append(policy.Validators, v)
	}
	guard, err := httpauth.Require(policy)
	if err != nil {
		return nil, err
	}
	return guard(http.HandlerFunc(hello)), nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	name := "friend"
	if who, ok := httpauth.FromContext(r.Context()); ok {
		if profile, err := who.UserProfile(r.Context()); err == nil && profile != nil {
			name = profile.Account
		}
	}
	fmt.Fprintf(w, "hello, %s\n", name)
}
