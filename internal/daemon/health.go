package daemon

import (
	"strings"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// freshFor is how old the last progress of a ready source may be. A source
	// makes some every second, even an idle one.
	freshFor = 10 * time.Second
	// defaultMaxParked is redissink.Config.MaxParked where nobody sets it.
	defaultMaxParked = 1000
)

// health knows how one source is, and judges it: see Status. It is an Observer,
// and the watchedSink and sourceSink tell it what no event says.
//
// To wire: a supervisor takes watch.begin for each attempt and gives that to all
// parts; SetLag and SetParked are for whoever polls Source.Lag and Sink.Parked.
// /healthz fails on wedged, /readyz on a snapshot that is not Ready.
type health struct {
	mu        sync.Mutex
	status    Status // what is shown as it was told; snapshot adds the rest
	maxParked int

	attempt    int               // whose events are heard; see begin
	connected  bool              // the source reached its database in this attempt
	progressed bool              // the source got somewhere in this attempt
	lost       bool              // no usable position, and no purge was asked for yet
	settled    bool              // it progressed or stood by, in any attempt
	ended      bool              // for good: no attempt will follow
	waiting    map[string]string // part -> reason
	life       life
	covered    coverage
	purges     map[string]*purge // by pattern
	lag        lag
}

func newHealth(name, kind string) *health {
	now := time.Now()
	return &health{
		status: Status{Name: name, Kind: kind}, maxParked: defaultMaxParked,
		waiting: map[string]string{}, purges: map[string]*purge{},
		life: newLife(now), covered: newCoverage(now),
	}
}

// begin starts another attempt at the source: from here on, what parts of the
// earlier ones still say is not heard. It returns the attempt's number.
func (h *health) begin() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempt++
	h.forget()
	return h.attempt
}

// isCurrent reports whether an attempt is the one that runs. 0 is for those who
// do not tell attempts apart.
func (h *health) isCurrent(attempt int) bool { return attempt == 0 || attempt == h.attempt }

// Observe implements invalidation.Observer.
func (h *health) Observe(e invalidation.Event) { h.observe(0, e) }

// observe hears an event, and reports whether it was of the current attempt.
func (h *health) observe(attempt int, e invalidation.Event) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isCurrent(attempt) {
		return false
	}
	now := time.Now()
	h.life.hear(now, e)
	switch e.Kind { //nolint:exhaustive // the rest is no matter of health
	case invalidation.Waiting:
		h.waits(e)
	case invalidation.Working:
		h.works(e.Part)
	case invalidation.Advanced:
		h.advanced(now, e)
	case invalidation.Lost:
		h.lost = true
	case invalidation.Replaying:
		if causeOf(e.Err) == causeCache {
			h.status.Replays++
		}
		h.covered.doubt()
	case invalidation.PurgeStarted, invalidation.PurgeProgress, invalidation.PurgeDone:
		h.purge(e)
	case invalidation.Standby, invalidation.Leading:
		h.leadership(now, e)
	default:
		h.count(e)
	}
	return true
}

// count keeps the numbers that judge nothing, but for the parked keys.
func (h *health) count(e invalidation.Event) {
	switch e.Kind { //nolint:exhaustive // the caller has chosen
	case invalidation.Deleted:
		h.status.Deleted += e.Count
	case invalidation.Incomplete:
		h.status.Incomplete++
	case invalidation.Parked:
		h.status.Parked = e.Count
	}
}

func (h *health) waits(e invalidation.Event) {
	if h.status.Retries == nil {
		h.status.Retries = map[string]int{}
	}
	h.status.Retries[boundedPart(e.Part)]++
	if _, already := h.waiting[e.Part]; !already && isOfCache(e.Part) {
		h.covered.hold(e.Part) // the rest goes on, so progress is no proof for this one
	}
	h.waiting[e.Part] = oneLine(e.Err)
}

// works says that a part works. The gate belongs to the source: what heals one
// heals the other.
func (h *health) works(part string) {
	h.heal(part)
	if part == invalidation.PartSource {
		h.connected = true
		h.heal(invalidation.PartGate)
	}
}

// heal ends a part's wait, and that of the supervisor: it has started again.
func (h *health) heal(part string) {
	delete(h.waiting, part)
	delete(h.waiting, partSupervisor)
	if isOfCache(part) {
		h.covered.drop(func(what string) bool { return what == part }) // what it missed comes now
	}
}

// advanced hears how far the source came. That it is alive is no progress: it
// has to have read something, or know that there is nothing to read.
func (h *health) advanced(now time.Time, e invalidation.Event) {
	moved := e.Count > 0 || e.Keys > 0 ||
		e.Text != "" && e.Text != h.status.Position || !e.At.IsZero() && !e.At.Equal(h.status.Committed)
	if e.Text != "" {
		h.status.Position = e.Text
	}
	if !e.At.IsZero() {
		h.status.Committed = e.At
	}
	h.covered.advance(now, e, moved)
	if !e.Idle && !moved {
		return
	}
	h.progress(now)
	h.works(invalidation.PartSource)
}

func (h *health) progress(now time.Time) {
	h.status.LastProgress = now
	h.progressed, h.settled = true, true
}

// leadership hears who leads. Whoever stands by reads the lease, so the cache
// answers; what it deletes, and how late, is the leader's to say.
func (h *health) leadership(now time.Time, e invalidation.Event) {
	h.status.Role, h.status.Leader = Leading, e.Text
	if e.Kind == invalidation.Standby {
		h.status.Role = StandingBy
		h.connected, h.progressed, h.lost, h.settled = false, false, false, true
		clear(h.purges)
		h.covered = newCoverage(now)
		h.works(invalidation.PartCache)
	}
	h.works(invalidation.PartLease)
}

// stopped says that the source ended with err, and will be started again. What
// its parts still say later is not heard.
func (h *health) stopped(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop(err)
	if causeOf(err) == causeCache {
		h.status.Restarts++
	}
}

// endedForGood says that the source ended with err, and has given up the lease.
func (h *health) endedForGood(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop(err)
	h.ended = true
	h.status.Role, h.status.Leader = "", ""
}

func (h *health) stop(err error) {
	h.attempt++
	h.forget()
	h.waiting[partSupervisor] = oneLine(err)
}

// hasWorked reports whether the source ever got anywhere, or stood by.
func (h *health) hasWorked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.settled
}

// forget drops what the parts of an attempt have said, but not that something
// may still be undeleted.
func (h *health) forget() {
	supervisor, stopped := h.waiting[partSupervisor]
	clear(h.waiting)
	if stopped {
		h.waiting[partSupervisor] = supervisor
	}
	clear(h.purges)
	h.connected, h.progressed, h.lost = false, false, false
	h.covered.restart()
	h.life = newLife(time.Now())
}

// SetParked says how many keys are parked, as the Sink counts them.
func (h *health) SetParked(keys int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.Parked = keys
}

// isOfCache reports whether a part is one of the cache's, while the rest of it
// works: a master of a cluster, its slots that none serves, or its layout.
func isOfCache(part string) bool { return strings.HasPrefix(part, invalidation.PartCache+" ") }

// isMaster reports whether a part is one master of a cluster, by its address.
func isMaster(part string) bool { return isOfCache(part) && strings.Contains(part, ":") }

// boundedPart returns the part with its address cut off, so that there are only
// as many as the kernel names.
func boundedPart(part string) string {
	name, _, _ := strings.Cut(part, " ")
	switch name {
	case invalidation.PartCache, invalidation.PartSource, invalidation.PartGate, invalidation.PartLease, partSupervisor:
		return name
	}
	return "other"
}

func errorText(err error) string {
	if err == nil {
		return "no reason given"
	}
	return err.Error()
}

// oneLine is errorText for pages that have one line for each thing.
func oneLine(err error) string { return strings.ReplaceAll(errorText(err), "\n", "; ") }
