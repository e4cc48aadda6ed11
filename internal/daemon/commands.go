package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// ReplayRequest is the body of POST /replay. At most one of Since and From is
// set; neither: since the oldest position that the log still has.
type ReplayRequest struct {
	Source string `json:"source,omitempty"` // "": all
	Since  string `json:"since,omitempty"`  // a duration such as "10m"
	From   string `json:"from,omitempty"`   // a position; needs Source where there are several
}

// PurgeRequest is the body of POST /purge.
type PurgeRequest struct {
	Source   string   `json:"source,omitempty"` // whose leader deletes; "": any
	Patterns []string `json:"patterns,omitempty"`
	All      bool     `json:"all,omitempty"` // the patterns of all rules instead
}

// ParkedRequest is the body of POST /parked/retry and of POST /parked/drop.
type ParkedRequest struct {
	Source string   `json:"source,omitempty"` // "": all
	Keys   []string `json:"keys,omitempty"`   // none: all
}

// ParkedPage is the answer of GET /parked, which only lists, of POST
// /parked/retry and of POST /parked/drop.
type ParkedPage struct {
	Parked []ParkedKey `json:"parked"`
	// Deleted counts the keys that a retry has deleted, Left those that it has
	// not, and Dropped what was forgotten without being deleted.
	Deleted int `json:"deleted"`
	Left    int `json:"left"`
	Dropped int `json:"dropped"`
}

// ParkedKey is a key that Redis refuses to delete.
type ParkedKey struct {
	Source string    `json:"source"`
	Key    string    `json:"key"` // *** unless keys are shown
	Error  string    `json:"error"`
	Since  time.Time `json:"since"`
}

// The events of a Progress.
const (
	ProgressBegun   = "begun"
	ProgressGoesOn  = "progress"
	ProgressWaiting = "waiting" // for what Error says
	ProgressDone    = "done"
	ProgressPartly  = "incomplete" // done, but for what Refused says
	ProgressFailed  = "failed"     // for the reason in Error
)

// Progress is one line of the answer to POST /replay and POST /purge.
type Progress struct {
	Event  string `json:"event"`
	Source string `json:"source"`
	// Pattern is what a purge deletes. Cached is how many keys the cache has,
	// Scanned how many of them were looked at, Deleted how many matched.
	Pattern string `json:"pattern,omitempty"`
	Cached  int    `json:"cached,omitempty"`
	Scanned int    `json:"scanned,omitempty"`
	Deleted int    `json:"deleted"`
	// From is where a replay begins, Committed the newest commit that it has
	// deleted for so far.
	From      string    `json:"from,omitempty"`
	Committed time.Time `json:"committed,omitzero"`
	// Purged is how many keys a replay deleted by pattern, where the log does
	// not name them. Refused says which keys a purge could not delete.
	Purged  int    `json:"purged,omitempty"`
	Refused string `json:"refused,omitempty"`
	// Done is the share of the work that is done, 0 to 1.
	Done   float64 `json:"done"`
	Error  string  `json:"error,omitempty"`
	Leader string  `json:"leader,omitempty"`
}

// named returns the members of a name; "" stands for all.
func (a *admin) named(name string) ([]*member, error) {
	all := a.members()
	var names []string
	for _, m := range all {
		if m.source.Name == name {
			return []*member{m}, nil
		}
		names = append(names, m.source.Name)
	}
	if name == "" {
		return all, nil
	}
	return nil, refuse(http.StatusNotFound, fmt.Sprintf("there is no source %q: there is %s", name, strings.Join(names, ", ")))
}

// leading returns the parts of the attempt under way, which has to lead.
func (m *member) leading() (*assembly, error) {
	if other := m.feed.leads(); other != "" {
		return nil, &refusal{
			status: http.StatusConflict, Leader: other,
			Text: fmt.Sprintf("source %s: this daemon stands by, and %s leads: ask that one", m.source.Name, other),
		}
	}
	running := m.running.Load()
	if running == nil || running.cache == nil || !running.cache.Leads() {
		status := m.watch.snapshot()
		return nil, refuse(http.StatusServiceUnavailable, fmt.Sprintf("source %s does not lead yet (%s): try again when it does", m.source.Name, strings.TrimSpace(readyLine(status))))
	}
	return running, nil
}

// hides masks keys unless they may be shown.
func hides(keys []redissink.Parked, source string, show bool) []ParkedKey {
	shown := make([]ParkedKey, len(keys))
	for i, k := range keys {
		shown[i] = ParkedKey{Source: source, Key: k.Key, Error: k.Error, Since: k.Since}
		if !show {
			shown[i].Key = hidden
			// Redis may repeat the key in what it says.
			shown[i].Error = strings.ReplaceAll(k.Error, k.Key, hidden)
		}
	}
	return shown
}

// commandWithin bounds what an operator's command asks of servers.
const commandWithin = 10 * time.Second

// timely explains an error that is due to commandWithin.
func timely(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s: %w", commandWithin, err)
	}
	return err
}
