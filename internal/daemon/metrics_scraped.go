package daemon

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// scraped is the metrics that are a source's Status at the time of the scrape:
// nothing has to happen for them to change. It is a Collector.
type scraped struct {
	age, progress, lagTransactions, lagBytes *prometheus.Desc
	state, working, behind                   *prometheus.Desc
	ready, leader, parked, purging           *prometheus.Desc

	mu      sync.Mutex
	sources map[string]*health
}

func newScraped() *scraped {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("invalidator_"+name, help, append([]string{"source"}, labels...), nil)
	}
	return &scraped{
		age: desc("oldest_undeleted_commit_age_seconds", "How old the oldest commit is at the most whose keys may not be deleted yet; alert on this one. "+
			"0 while the log is known to be empty, nothing waits and no purge is owed. Else the time since the newest commit that was deleted, or since the log was last empty; "+
			"what a purge or a master left behind still owes holds it back. It grows while anything waits, purges, is disconnected or hangs. Absent while standing by: the leader has it."),
		progress:        desc("last_progress_timestamp_seconds", "When the source last read something or knew that there was nothing to read. Absent until then."),
		lagTransactions: desc("lag_transactions", "Transactions, or rows of an outbox, at the end of the log that were not read yet. Absent where nobody knows."),
		lagBytes:        desc("lag_bytes", "Bytes at the end of the log that were not read yet. Absent where nobody knows."),
		state:           desc("source_state", "1 for the state that the source is in. wedged: it hangs, restart the process.", "state"),
		working:         desc("part_working", "0 while a part (redis, lease, source, gate) can not do its work and tries again, else 1. /status says why.", "part"),
		behind:          desc("masters_behind", "Masters of a cluster that can not be reached. After some seconds the others go on without them, and their deletes are owed. /status names them."),
		ready:           desc("ready", "1 while the source is ready in the sense of /readyz, which says why if it is not."),
		leader:          desc("leader", "1 while this process leads, 0 while another one does or nobody. The sum over all processes should be 1."),
		parked:          desc("parked_keys", "Keys whose delete Redis refuses for good: see invalidator parked."),
		purging:         desc("purges_running", "Purges by pattern that are asked for or run. The position waits for them, but for those by hand."),
		sources:         map[string]*health{},
	}
}

// add has a source asked from now on, in place of another one of that name. What
// that one owes is the new one's debt.
func (s *scraped) add(h *health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.sources[h.status.Name]; old != nil {
		h.succeed(old)
	}
	s.sources[h.status.Name] = h
}

// remove has it no longer asked, and reports whether it was.
func (s *scraped) remove(h *health) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sources[h.status.Name] != h {
		return false
	}
	delete(s.sources, h.status.Name)
	return true
}

// Describe implements prometheus.Collector.
func (s *scraped) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.age, s.progress, s.lagTransactions, s.lagBytes, s.state, s.working, s.behind, s.ready, s.leader, s.parked, s.purging,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scraped) Collect(to chan<- prometheus.Metric) {
	s.mu.Lock()
	sources := slices.Collect(maps.Values(s.sources))
	s.mu.Unlock()
	for _, h := range sources {
		s.collect(to, h.snapshot())
	}
}

func (s *scraped) collect(to chan<- prometheus.Metric, status Status) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{status.Name}, labels...)...)
	}
	if status.OldestUndeleted != nil {
		gauge(s.age, *status.OldestUndeleted)
	}
	if !status.LastProgress.IsZero() {
		gauge(s.progress, float64(status.LastProgress.UnixNano())/1e9)
	}
	if status.Lag != nil && status.Lag.Transactions >= 0 {
		gauge(s.lagTransactions, float64(status.Lag.Transactions))
	}
	if status.Lag != nil && status.Lag.Bytes >= 0 {
		gauge(s.lagBytes, float64(status.Lag.Bytes))
	}
	for _, state := range []State{Starting, Waiting, Purging, Running, Standby, Wedged, Ended} {
		gauge(s.state, oneIf(state == status.State), string(state))
	}
	waits := map[string]bool{}
	for part := range status.Waiting {
		waits[boundedPart(part)] = true
	}
	for _, part := range []string{invalidation.PartCache, invalidation.PartLease, invalidation.PartSource, invalidation.PartGate} {
		gauge(s.working, oneIf(!waits[part] && !waits[partSupervisor]), part)
	}
	gauge(s.behind, float64(len(status.Behind)))
	gauge(s.ready, oneIf(status.Ready))
	gauge(s.leader, oneIf(status.Role == Leading && !waits[invalidation.PartLease]))
	gauge(s.parked, float64(status.Parked))
	gauge(s.purging, float64(len(status.Purges)))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
