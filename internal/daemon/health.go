package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// freshFor is how old the last progress of a ready source may be. A source
// makes some every second, even an idle one.
const freshFor = 10 * time.Second

// State is what a source does.
type State string

// The states of a source.
const (
	Starting State = "starting"
	Waiting  State = "waiting" // for a server, which the reason names
	Purging  State = "purging"
	Running  State = "running"
)

// Status is how a source is. It holds no keys and no secrets.
type Status struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // mysql or postgres
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Ready: it is running and made progress in the last 10 seconds.
	Ready bool `json:"ready"`
	// Position is what the source last said of how far it came, and
	// Committed when the newest change up to there was committed.
	Position     string    `json:"position,omitempty"`
	Committed    time.Time `json:"committed,omitzero"`
	LastProgress time.Time `json:"last_progress,omitzero"`
	// Deleted and Purged count keys since the daemon started, and those of
	// a second delete again.
	Deleted int `json:"deleted"`
	Purged  int `json:"purged"`
	// Restarts counts how often the source was started again.
	Restarts int `json:"restarts"`
	// Incomplete counts changes that deleted by pattern, because their keys
	// were not known: a misspelt column, a minimal row image, DDL.
	Incomplete int `json:"incomplete"`
}

// health keeps a source's Status. It is an Observer.
type health struct {
	mu      sync.Mutex
	status  Status
	worked  bool              // since the last start
	waiting map[string]string // part -> reason
	purging map[string]int    // pattern -> deleted so far
}

func newHealth(name, kind string) *health {
	return &health{
		status:  Status{Name: name, Kind: kind},
		waiting: map[string]string{}, purging: map[string]int{},
	}
}

// Observe implements invalidation.Observer.
func (h *health) Observe(e invalidation.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Kind { //nolint:exhaustive // the rest is not a matter of health
	case invalidation.Waiting:
		h.waiting[e.Part] = e.Part + ": " + errorText(e.Err)
	case invalidation.Working:
		h.works(e.Part)
	case invalidation.Advanced:
		h.status.LastProgress = time.Now()
		if e.Text != "" {
			h.status.Position = e.Text
		}
		if !e.At.IsZero() {
			h.status.Committed = e.At
		}
		h.works(invalidation.PartSource)
	case invalidation.Deleted:
		h.status.Deleted += e.Count
		h.status.LastProgress = time.Now()
	case invalidation.Incomplete:
		h.status.Incomplete++
	case invalidation.PurgeStarted:
		h.purging[e.Text] = 0
	case invalidation.PurgeProgress:
		h.purging[e.Text] = e.Count
	case invalidation.PurgeDone:
		delete(h.purging, e.Text)
		h.status.Purged += e.Count
	}
}

// works says that a part works. The gate belongs to the source: what heals one
// heals the other.
func (h *health) works(part string) {
	h.worked = true
	delete(h.waiting, part)
	delete(h.waiting, partSupervisor)
	if part == invalidation.PartSource {
		delete(h.waiting, invalidation.PartGate)
	}
}

// answered says that the cache answered a batch. It is no progress: a source
// whose database is silent sends heartbeats all the same.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.works(invalidation.PartCache)
}

// stopped says that the source ended with err and will be started again.
func (h *health) stopped(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.waiting)
	clear(h.purging)
	h.worked = false
	h.status.Restarts++
	h.waiting[partSupervisor] = errorText(err)
}

// snapshot returns the Status as of now.
func (h *health) snapshot() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.status
	switch {
	case len(h.waiting) > 0:
		s.State, s.Reason = Waiting, first(h.waiting)
	case len(h.purging) > 0:
		pattern := slices.Min(slices.Collect(maps.Keys(h.purging)))
		s.State, s.Reason = Purging, fmt.Sprintf("%s: %d keys deleted so far", pattern, h.purging[pattern])
	case !h.worked:
		s.State = Starting
	default:
		s.State = Running
	}
	if s.State == Running {
		s.Reason = stale(s.LastProgress)
		s.Ready = s.Reason == ""
	}
	return s
}

// stale says so where the last progress is too long ago; "" where it is not.
func stale(last time.Time) string {
	if last.IsZero() {
		return "no progress yet"
	}
	if age := time.Since(last); age > freshFor {
		return fmt.Sprintf("no progress for %s", age.Round(time.Second))
	}
	return ""
}

// first returns the value of the smallest key.
func first[K cmp.Ordered, V any](m map[K]V) V { return m[slices.Min(slices.Collect(maps.Keys(m)))] }

func errorText(err error) string {
	if err == nil {
		return "no reason given"
	}
	return err.Error()
}
