package daemon

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// otherGroup is what keys count under that are in no group of the configuration.
const otherGroup = "other"

// sourceCounters are the metrics that events feed, for all sources.
type sourceCounters struct {
	transactions, keys, coalesced, pruned         *prometheus.CounterVec
	deleted, retries, parked                      *prometheus.CounterVec
	purges, purgesDone, purgedKeys                *prometheus.CounterVec
	replays, lost, incomplete, restarts, takeover *prometheus.CounterVec
	batch, latency, gate                          *prometheus.HistogramVec
	leads                                         map[string]*atomic.Bool // by source, however often that is replaced
}

func newSourceCounters() sourceCounters {
	return sourceCounters{
		leads:        map[string]*atomic.Bool{},
		transactions: counter("transactions_total", "Transactions of a binlog, or rows of an outbox, whose keys Redis has answered for. Those read again after a restart count again."),
		keys:         counter("keys_total", "Keys that rows or outbox rows named, without the duplicates of one batch."),
		coalesced:    counter("coalesced_keys_total", "Keys that were dropped because the same batch named them before."),
		deleted:      counter("deleted_keys_total", "Deletes that Redis answered, by the key's template or glob, and whether the key was there. Second deletes count again, purges do not.", "group", "result"),
		batch:        histogram("batch_keys", "How many keys one batch deleted. Large ones mean that the source is catching up.", prometheus.ExponentialBuckets(1, 4, 9)),
		latency: histogram("commit_to_deleted_seconds", "How long after a commit Redis had answered its deletes: the oldest commit of each batch and, where it has several, the newest. By the clocks of database and daemon.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}),
		gate: histogram("gate_wait_seconds", "How long a batch waited until its commits were visible to those who read the database.",
			[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}),
		retries:    counter("retries_total", "How often a part (redis, lease, source, gate) could not do its work and tried again. /status says why.", "part"),
		parked:     counter("parked_total", "Keys whose delete Redis refuses for good, each time one is parked. They stay stale until they expire or are unparked: see invalidator parked."),
		purges:     counter("purges_started_total", "Purges by pattern that began, and each time that one had to begin again."),
		purgesDone: counter("purges_done_total", "Purges by pattern that are done."),
		purgedKeys: counter("purged_keys_total", "Keys that purges deleted."),
		replays:    counter("replays_total", "How often deletes were made again: by cause, because the cache had gone back in time, as after a failover, or because an operator asked for it.", "cause"),
		lost:       counter("lost_positions_total", "How often no usable position was found, first starts included. Each time everything that the rules name is purged."),
		incomplete: counter("incomplete_changes_total", "Changes that purge by pattern, because their keys are not known: DDL, a misspelt column, a minimal row image."),
		restarts:   counter("restarts_total", "How often the source was started again within the process, after an error or for a replay that the cache made necessary."),
		pruned:     counter("pruned_rows_total", "Rows that were removed from the outbox after their retention."),
		takeover:   counter("takeovers_total", "How often this process began to lead."),
	}
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "invalidator_" + name, Help: help}, append([]string{"source"}, labels...))
}

func histogram(name, help string, buckets []float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "invalidator_" + name, Help: help, Buckets: buckets}, []string{"source"})
}

// vec is what counters and histograms have in common.
type vec interface {
	prometheus.Collector
	DeletePartialMatch(labels prometheus.Labels) int
}

func (c sourceCounters) vecs() []vec {
	return []vec{
		c.transactions, c.keys, c.coalesced, c.deleted, c.batch, c.latency, c.gate, c.retries, c.parked,
		c.purges, c.purgesDone, c.purgedKeys, c.replays, c.lost, c.incomplete, c.restarts, c.pruned, c.takeover,
	}
}

func (c sourceCounters) all() []prometheus.Collector {
	var all []prometheus.Collector
	for _, v := range c.vecs() {
		all = append(all, v)
	}
	return all
}

// forget drops the series of a source.
func (c sourceCounters) forget(source string) {
	for _, v := range c.vecs() {
		v.DeletePartialMatch(prometheus.Labels{"source": source})
	}
	delete(c.leads, source)
}

// of returns the metrics of one source. All its series exist from now on: what
// has not happened yet is 0, so that its first time is an increase.
func (c sourceCounters) of(source string, groups []string) *sourceMetrics {
	if c.leads[source] == nil {
		c.leads[source] = &atomic.Bool{}
	}
	m := &sourceMetrics{
		transactions: c.transactions.WithLabelValues(source), keys: c.keys.WithLabelValues(source),
		coalesced: c.coalesced.WithLabelValues(source), batch: c.batch.WithLabelValues(source),
		latency: c.latency.WithLabelValues(source), gate: c.gate.WithLabelValues(source),
		parked: c.parked.WithLabelValues(source), purges: c.purges.WithLabelValues(source),
		purgesDone: c.purgesDone.WithLabelValues(source), purgedKeys: c.purgedKeys.WithLabelValues(source),
		lost:       c.lost.WithLabelValues(source),
		incomplete: c.incomplete.WithLabelValues(source), restarts: c.restarts.WithLabelValues(source),
		pruned: c.pruned.WithLabelValues(source), takeover: c.takeover.WithLabelValues(source), leads: c.leads[source],
		retries: map[string]prometheus.Counter{}, replays: map[string]prometheus.Counter{}, deleted: map[string]deletes{}, purging: map[string]purgedKeys{},
	}
	for _, part := range []string{invalidation.PartCache, invalidation.PartLease, invalidation.PartSource, invalidation.PartGate} {
		m.retries[part] = c.retries.WithLabelValues(source, part)
	}
	for _, cause := range []string{causeCache, causeOperator} {
		m.replays[cause] = c.replays.WithLabelValues(source, cause)
	}
	for _, group := range append(slices.Clip(groups), otherGroup) {
		m.deleted[group] = deletes{
			found:  c.deleted.WithLabelValues(source, group, "found"),
			absent: c.deleted.WithLabelValues(source, group, "absent"),
		}
	}
	return m
}
