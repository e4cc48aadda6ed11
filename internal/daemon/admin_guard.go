package daemon

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
)

// guard decides who may change something or see keys: whoever comes over the
// Unix socket, and over TCP whoever bears the token.
type guard struct {
	mu     sync.Mutex
	token  Secret
	socket string
}

func newGuard(cfg HTTP) *guard { return &guard{token: cfg.Token, socket: cfg.Socket} }

// set replaces the token.
func (g *guard) set(token Secret) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.token = token
}

// check returns nil where the request is allowed.
func (g *guard) check(trusted bool, r *http.Request) *refusal {
	if trusted {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token.Reveal() == "" {
		remedy := "set http.token_file in its configuration, or http.socket and use the socket"
		if g.socket != "" {
			remedy = "use the socket " + g.socket + ", or set http.token_file in its configuration"
		}
		return refuse(http.StatusForbidden, "this daemon takes no commands over TCP, because no token is set: "+remedy)
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || !same(given, g.token.Reveal()) {
		return refuse(http.StatusUnauthorized, "the token is missing or wrong: give the daemon's http.token, as --token-file or in INVALIDATOR_TOKEN")
	}
	return nil
}

// same compares in constant time, whatever the lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
