package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// State is what a source does.
type State string

// The states of a source.
const (
	Starting State = "starting"
	Waiting  State = "waiting" // for servers, which the reason names
	Purging  State = "purging" // and deleting beside it, if it is ready
	Running  State = "running"
	Standby  State = "standby" // another daemon leads
	Wedged   State = "wedged"  // it hangs: restart the process
	Ended    State = "ended"   // for good, because of what only a person can heal
)

// Role is whether this process does the work of a source.
type Role string

// The roles. "" is that of a source that has not asked yet.
const (
	Leading    Role = "leading"
	StandingBy Role = "standby"
)

// Status is how a source is. It holds no keys and no secrets.
type Status struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"` // mysql or postgres
	State State  `json:"state"`
	// Reason says why it is not ready, or what there is to know although it
	// is. One line.
	Reason string `json:"reason,omitempty"`
	// Ready: it leads, no part of it waits, and it made progress or knew that
	// there was nothing to do in the last 10 seconds; or it stands by and
	// the cache answers. Never while a purge runs that was asked for before
	// the source had got anywhere, or too many keys are parked.
	Ready bool `json:"ready"`
	// Role is what the lease says of this process, Leader whom it names.
	Role   Role   `json:"role,omitempty"`
	Leader string `json:"leader,omitempty"`
	// Position is what the source last said of how far it came, and
	// Committed when the newest change up to there was committed.
	Position     string    `json:"position,omitempty"`
	Committed    time.Time `json:"committed,omitzero"`
	LastProgress time.Time `json:"last_progress,omitzero"`
	// LastHeard is when the source, or the cache that it waits for, last gave
	// a sign of life. After 30 seconds without one it is wedged.
	LastHeard time.Time `json:"last_heard,omitzero"`
	// OldestUndeleted is how old the oldest commit is at the most whose keys
	// may not be deleted yet, in seconds; not set while standing by.
	OldestUndeleted *float64 `json:"oldest_undeleted_seconds,omitempty"`
	// Lag is what of the log was not read yet; not set where nobody knows.
	Lag *LagStatus `json:"lag,omitempty"`
	// Waiting says for each part that can not work why that is, and Behind
	// names the masters of a cluster among them.
	Waiting map[string]string `json:"waiting,omitempty"`
	Behind  []string          `json:"behind,omitempty"`
	Purges  []Purge           `json:"purges,omitempty"`
	// Parked counts the keys that Redis refuses to delete.
	Parked int `json:"parked"`
	// Deleted and Purged count keys since the daemon started, and those of
	// a second delete again.
	Deleted int `json:"deleted"`
	Purged  int `json:"purged"`
	// Restarts counts how often the source was started again, Replays how
	// often because the cache went back in time, and Retries what each part
	// tried again. Replays that an operator asked for are in none of them.
	Restarts int            `json:"restarts"`
	Replays  int            `json:"replays"`
	Retries  map[string]int `json:"retries,omitempty"`
	// Incomplete counts changes that deleted by pattern, because their keys
	// were not known: a misspelt column, a minimal row image, DDL.
	Incomplete int `json:"incomplete"`
}

// LagStatus is how far behind the end of the log a source is; -1: not known.
type LagStatus struct {
	Transactions int64 `json:"transactions"`
	Bytes        int64 `json:"bytes"`
}

// lagFor is how long it counts what somebody said of the lag.
const lagFor = time.Minute

type lag struct {
	LagStatus

	at time.Time
}

// SetLag says how much of the log was not read yet; negative: not known. Call
// it every 10 seconds: after a minute without a call nothing is known.
func (h *health) SetLag(transactions, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lag = lag{LagStatus{Transactions: max(-1, transactions), Bytes: max(-1, bytes)}, time.Now()}
}

func (l lag) status(now time.Time) *LagStatus {
	if l.at.IsZero() || now.Sub(l.at) > lagFor || l.Transactions < 0 && l.Bytes < 0 {
		return nil
	}
	return &l.LagStatus
}

// snapshot returns the Status as of now.
func (h *health) snapshot() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	s := h.status
	s.State, s.Reason, s.Ready = h.verdict(now)
	s.LastHeard, _ = h.life.heard()
	s.Lag = h.lag.status(now)
	s.Retries = maps.Clone(s.Retries)
	s.Waiting, s.Behind = h.waitingParts()
	for _, p := range h.sortedPurges() {
		s.Purges = append(s.Purges, p.Purge)
	}
	if s.State != Standby {
		age := h.covered.age(now, s.State == Wedged || len(h.waiting) > 0).Seconds()
		s.OldestUndeleted = &age
	}
	return s
}

// verdict judges the source: the worst that can be said comes first.
func (h *health) verdict(now time.Time) (state State, reason string, ready bool) {
	if silent := h.silent(now); silent != "" {
		return Wedged, silent, false
	}
	if h.ended {
		return Ended, h.whatWaits(), false
	}
	if len(h.waiting) > 0 {
		return Waiting, h.whatWaits(), false
	}
	if h.status.Role == StandingBy {
		return h.standby(now)
	}
	purges, atStart := h.describePurges()
	state = Running
	switch {
	case h.lost:
		return Purging, "no usable position: a purge is about to begin, entries may be stale until it is done", false
	case atStart:
		return Purging, purges + ": entries may be stale until it is done", false
	case !h.connected && !h.progressed:
		return Starting, h.begins(now), false
	case len(h.purges) > 0:
		state, reason = Purging, purges
	}
	if h.status.Parked >= h.maxParked {
		return state, fmt.Sprintf("%d keys are parked because Redis refuses to delete them, and no more can be: see invalidator parked", h.status.Parked), false
	}
	if old := h.stale(now); old != "" {
		return state, old, false
	}
	return state, reason, true
}

// standby is ready as long as the leader is still being watched.
func (h *health) standby(now time.Time) (State, string, bool) {
	leader := "another daemon leads"
	if h.status.Leader != "" {
		leader = h.status.Leader + " leads"
	}
	if age := now.Sub(h.life.cache); age > freshFor {
		return Standby, fmt.Sprintf("%s, as of %s ago", leader, age.Round(time.Second)), false
	}
	return Standby, leader, true
}

// waitingParts returns the reason of each part that waits, and the addresses of
// the masters among them.
func (h *health) waitingParts() (reasons map[string]string, behind []string) {
	for _, part := range slices.Sorted(maps.Keys(h.waiting)) {
		if reasons == nil {
			reasons = map[string]string{}
		}
		reasons[part] = h.waiting[part]
		if isMaster(part) {
			_, address, _ := strings.Cut(part, " ")
			behind = append(behind, address)
		}
	}
	return reasons, behind
}

// whatWaits names all parts that wait, in one line. The supervisor's reason
// tells by itself what it is about.
func (h *health) whatWaits() string {
	var reasons []string
	for _, part := range slices.Sorted(maps.Keys(h.waiting)) {
		reason := h.waiting[part]
		if part != partSupervisor {
			reason = part + ": " + reason
		}
		reasons = append(reasons, reason)
	}
	return strings.Join(reasons, "; ")
}

// blamed returns what the parts wait for in place of an error that says only
// that time is up.
func (h *health) blamed(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) == 0 || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New(h.whatWaits())
}

// stale says so where the last progress is too long ago, or was made before the
// last start; "" where it is neither.
func (h *health) stale(now time.Time) string {
	last := h.status.LastProgress
	switch age := now.Sub(last); {
	case last.IsZero():
		return "no progress yet"
	case !h.progressed:
		return "no progress since the last start or change of leader"
	case age > freshFor:
		return fmt.Sprintf("no progress for %s: %s", age.Round(time.Second), h.awaited(now))
	}
	return ""
}

// begins says for whom a source waits that has not reached its database; "" before
// it has asked who leads.
func (h *health) begins(now time.Time) string {
	if h.status.Role == "" {
		return ""
	}
	return h.awaited(now)
}

// awaited says for whom the source waits, where no part says so.
func (h *health) awaited(now time.Time) string {
	if h.life.calls > 0 && now.Sub(h.life.source) > callsTakeLong {
		return "it waits for the cache"
	}
	return "it waits for the database"
}
