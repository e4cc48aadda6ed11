package daemon

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// sourceMetrics counts the events of one source. It is an Observer; a nil one
// counts nothing.
type sourceMetrics struct {
	transactions, keys, coalesced, pruned  prometheus.Counter
	parked, purges, purgesDone, purgedKeys prometheus.Counter
	lost, incomplete, restarts, takeover   prometheus.Counter
	leads                                  *atomic.Bool // since the last takeover
	batch, latency, gate                   prometheus.Observer
	retries                                map[string]prometheus.Counter // by part
	replays                                map[string]prometheus.Counter // by cause
	deleted                                map[string]deletes            // by group

	mu      sync.Mutex
	purging map[string]purgedKeys // pattern -> what was counted of the purge that runs
}

type deletes struct{ found, absent prometheus.Counter }

// purgedKeys are those since a purge has begun, which it may have to do again.
type purgedKeys struct{ before, now int }

// Observe implements invalidation.Observer.
func (m *sourceMetrics) Observe(e invalidation.Event) {
	if m == nil {
		return
	}
	switch e.Kind { //nolint:exhaustive // the rest is not counted
	case invalidation.Waiting:
		if retries := m.retries[boundedPart(e.Part)]; retries != nil {
			retries.Inc()
		}
	case invalidation.Deleted:
		m.delete(e)
	case invalidation.Advanced:
		m.advance(time.Now(), e)
	case invalidation.Gated:
		m.gate.Observe(e.Took.Seconds())
	case invalidation.Lost:
		m.lost.Inc()
	case invalidation.Replaying:
		m.replays[causeOf(e.Err)].Inc()
	case invalidation.PurgeStarted, invalidation.PurgeProgress, invalidation.PurgeDone:
		m.purge(e)
	case invalidation.Incomplete:
		m.incomplete.Inc()
	case invalidation.Parked:
		if e.Err != nil { // else fewer are parked than before
			add(m.parked, e.Keys)
		}
	case invalidation.Leading:
		if !m.leads.Swap(true) { // a source that begins anew says so again
			m.takeover.Inc()
		}
	case invalidation.Standby:
		m.leads.Store(false)
	case invalidation.Pruned:
		add(m.pruned, e.Count)
	}
}

func (m *sourceMetrics) delete(e invalidation.Event) {
	group, known := m.deleted[e.Text]
	if !known {
		group = m.deleted[otherGroup]
	}
	add(group.found, e.Found)
	add(group.absent, e.Count-e.Found)
}

func (m *sourceMetrics) advance(now time.Time, e invalidation.Event) {
	add(m.transactions, e.Count)
	add(m.keys, e.Keys)
	add(m.coalesced, e.Coalesced)
	if e.Keys <= 0 {
		return
	}
	m.batch.Observe(float64(e.Keys))
	if !e.Oldest.IsZero() {
		m.latency.Observe(max(0, now.Sub(e.Oldest)).Seconds())
	}
	// The only transaction of a batch is its oldest and its newest.
	if !e.At.IsZero() && (e.Oldest.IsZero() || e.Count > 1) {
		m.latency.Observe(max(0, now.Sub(e.At)).Seconds())
	}
}

// purge counts the keys of a purge while it runs: one may take hours.
func (m *sourceMetrics) purge(e invalidation.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counted := m.purging[e.Text]
	switch e.Kind { //nolint:exhaustive // the caller has chosen
	case invalidation.PurgeStarted:
		m.purges.Inc()
		m.purging[e.Text] = purgedKeys{before: counted.before + counted.now}
	case invalidation.PurgeProgress:
		add(m.purgedKeys, e.Count-counted.now)
		m.purging[e.Text] = purgedKeys{counted.before, e.Count}
	case invalidation.PurgeDone: // in all
		m.purgesDone.Inc()
		add(m.purgedKeys, e.Count-counted.before-counted.now)
		delete(m.purging, e.Text)
	}
}

// stopped counts that the source ended.
func (m *sourceMetrics) stopped(err error) {
	if m == nil {
		return
	}
	if causeOf(err) != causeOperator {
		m.restarts.Inc()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.purging)
}

// released notes that the lease was given up.
func (m *sourceMetrics) released() {
	if m != nil {
		m.leads.Store(false)
	}
}

// Why a source begins again at an older position.
const (
	causeCache    = "cache"    // it went back in time, or somebody else changed it
	causeOperator = "operator" // who asked for it
)

func causeOf(err error) string {
	if errors.Is(err, redissink.ErrReplayAsked) {
		return causeOperator
	}
	return causeCache
}

// add is Counter.Add, which panics when it is told less than nothing.
func add(c prometheus.Counter, n int) { c.Add(float64(max(0, n))) }
