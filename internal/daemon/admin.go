package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// admin answers how the daemon is and does what an operator asks for.
type admin struct {
	members  func() []*member
	guard    *guard
	hide     func(error) error // nil: there are no secrets
	metrics  http.Handler      // nil: there are none
	reloads  chan<- reloadRequest
	stopping <-chan struct{}
	alive    atomic.Bool // the supervisors run
}

// handler returns the pages. A trusted one is not behind the guard.
func (a *admin) handler(trusted bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /status", a.status)
	if a.metrics != nil {
		mux.Handle("GET /metrics", a.metrics)
	}
	mux.HandleFunc("GET /parked", func(w http.ResponseWriter, r *http.Request) { a.parked(w, r, trusted) })
	for path, serve := range map[string]http.HandlerFunc{
		"POST /reload": a.reload, "POST /replay": a.replay, "POST /purge": a.purge,
		"POST /parked/retry": a.commandParked(retryParked), "POST /parked/drop": a.commandParked(dropParked),
	} {
		mux.HandleFunc(path, a.guarded(trusted, serve))
	}
	// A browser that some other page makes send a request says so.
	return http.NewCrossOriginProtection().Handler(mux)
}

// guarded serves only whom the guard lets in.
func (a *admin) guarded(trusted bool, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if refused := a.guard.check(trusted, r); refused != nil {
			writeRefusal(w, refused)
			return
		}
		serve(w, r)
	}
}

// healthz is 200 while the supervisors run and no source hangs, whatever they
// wait for.
func (a *admin) healthz(w http.ResponseWriter, _ *http.Request) {
	var text strings.Builder
	for _, m := range a.members() {
		if silent := m.watch.wedged(time.Now()); silent != "" {
			_, _ = fmt.Fprintf(&text, "%s: %s\n", m.source.Name, silent)
		}
	}
	if !a.alive.Load() {
		text.WriteString("not running\n")
	}
	if text.Len() > 0 {
		http.Error(w, strings.TrimSuffix(text.String(), "\n"), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// ReadyPage is the answer of GET /readyz?json=true.
type ReadyPage struct {
	Ready   bool          `json:"ready"`
	Sources []SourceReady `json:"sources"`
}

// SourceReady is what /readyz says of one source.
type SourceReady struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	Ready  bool   `json:"ready"`
}

// readyz is 200 when every source works, else 503; with a line for each source,
// or as JSON.
func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
	members := a.members()
	page := ReadyPage{Ready: a.alive.Load() && len(members) > 0, Sources: []SourceReady{}}
	var text strings.Builder
	if len(members) == 0 {
		text.WriteString("starting: no source runs yet\n")
	}
	for _, m := range members {
		s := m.watch.snapshot()
		page.Ready = page.Ready && s.Ready
		page.Sources = append(page.Sources, SourceReady{s.Name, s.State, s.Reason, s.Ready})
		text.WriteString(readyLine(s))
	}
	status := http.StatusOK
	if !page.Ready {
		status = http.StatusServiceUnavailable
	}
	if asJSON, _ := strconv.ParseBool(r.URL.Query().Get("json")); asJSON {
		writeJSON(w, status, page)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text.String())
}

func readyLine(s Status) string {
	line := s.Name + ": " + string(s.State)
	if s.Reason != "" {
		line += ": " + s.Reason
	}
	return line + "\n"
}

// StatusPage is the answer of GET /status.
type StatusPage struct {
	Sources []Status `json:"sources"`
}

func (a *admin) status(w http.ResponseWriter, _ *http.Request) {
	page := StatusPage{Sources: []Status{}}
	for _, m := range a.members() {
		page.Sources = append(page.Sources, m.watch.snapshot())
	}
	writeJSON(w, http.StatusOK, page)
}

// reload asks the daemon to read its configuration again.
func (a *admin) reload(w http.ResponseWriter, r *http.Request) {
	if refused := readBody(w, r, &struct{}{}); refused != nil {
		writeRefusal(w, refused)
		return
	}
	// Servers that are asked, and a source that is stopped, have their time.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(rehearseWithin + stopWithin + answerWithin))
	answer, err := a.askReload(r.Context())
	if err != nil {
		writeRefusal(w, refusalOf(err))
		return
	}
	if answer.err != nil {
		writeRefusal(w, refuse(http.StatusUnprocessableEntity, answer.err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, answer.done)
}

func (a *admin) askReload(ctx context.Context) (reloadAnswer, error) {
	request := reloadRequest{answer: make(chan reloadAnswer, 1)}
	select {
	case a.reloads <- request:
	case <-a.stopping:
		return reloadAnswer{}, errStopping
	case <-ctx.Done():
		return reloadAnswer{}, ctx.Err()
	}
	select {
	case answer := <-request.answer:
		return answer, nil
	case <-ctx.Done():
		return reloadAnswer{}, ctx.Err()
	}
}
