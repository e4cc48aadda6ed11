package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// admin answers how the daemon is.
type admin struct {
	sources []*health
	alive   atomic.Bool // the supervisors run
}

func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /status", a.status)
	return mux
}

// healthz is 200 while the supervisors run, whatever they wait for.
func (a *admin) healthz(w http.ResponseWriter, _ *http.Request) {
	if !a.alive.Load() {
		http.Error(w, "not running", http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// readyz is 200 when every source works, else 503 with a line for each source.
func (a *admin) readyz(w http.ResponseWriter, _ *http.Request) {
	var text strings.Builder
	ready := a.alive.Load()
	for _, source := range a.sources {
		s := source.snapshot()
		ready = ready && s.Ready
		text.WriteString(readyLine(s))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprint(w, text.String())
}

func readyLine(s Status) string {
	line := s.Name + ": " + string(s.State)
	if s.Reason != "" {
		line += ": " + s.Reason
	}
	return line + "\n"
}

func (a *admin) status(w http.ResponseWriter, _ *http.Request) {
	page := struct {
		Sources []Status `json:"sources"`
	}{Sources: make([]Status, 0, len(a.sources))}
	for _, source := range a.sources {
		page.Sources = append(page.Sources, source.snapshot())
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(page) // the client is gone: nobody is left to tell
}

// adminServer serves admin on an open listener.
type adminServer struct {
	listener net.Listener
	server   *http.Server
	ended    chan struct{}
}

// startAdmin opens the listener and serves in the background until stop.
func startAdmin(ctx context.Context, listen string, pages *admin) (*adminServer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("http.listen: the address %s is taken: is another invalidator running? stop it, or set http.listen to another port", listen)
	}
	if err != nil {
		return nil, fmt.Errorf("http.listen: can not listen on %s: set http.listen to an address of this machine: %w", listen, err)
	}
	s := &adminServer{listener: listener, ended: make(chan struct{}), server: &http.Server{
		Handler:           pages.handler(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
	}}
	go func() {
		defer close(s.ended)
		_ = s.server.Serve(listener) // ends with stop, and only then
	}()
	return s, nil
}

func (s *adminServer) addr() string { return s.listener.Addr().String() }

// stop closes the listener and all connections: the pages take no time worth
// waiting for.
func (s *adminServer) stop() {
	_ = s.server.Close()
	<-s.ended
}
