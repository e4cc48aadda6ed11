package daemon

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is what Prometheus may read of the daemon. Its series are bounded by
// the configuration: no key, table or address is ever a label.
//
// To wire: newMetrics once for a process; watch.metered for each source that
// starts and forget for each that the configuration no longer has; handler at
// GET /metrics; reloaded after each reload.
type metrics struct {
	registry *prometheus.Registry
	counters sourceCounters
	scraped  *scraped
	reloads  *prometheus.CounterVec
	loaded   prometheus.Gauge
}

// newMetrics returns the metrics of a daemon that has just loaded its
// configuration.
func newMetrics(version, revision string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		counters: newSourceCounters(),
		scraped:  newScraped(),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "invalidator_config_reloads_total",
			Help: "Reloads of the configuration file since the process started. After a failure the configuration from before stays in force.",
		}, []string{"result"}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "invalidator_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration that is in force was loaded, at the start or by a reload.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "invalidator_build_info", Help: "1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.reloads, m.loaded, m.scraped,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.counters.all()...)
	for _, result := range []string{"success", "failure"} {
		m.reloads.WithLabelValues(result)
	}
	m.loaded.SetToCurrentTime()
	return m
}

// handler answers GET /metrics.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// reloaded counts a reload of the configuration, which failed with err or did
// not.
func (m *metrics) reloaded(err error) {
	if err != nil {
		m.reloads.WithLabelValues("failure").Inc()
		return
	}
	m.reloads.WithLabelValues("success").Inc()
	m.loaded.SetToCurrentTime()
}

// source returns what counts for the source that h is of, and has h asked at
// each scrape. A source that was replaced goes on where it was. groups are the
// names that Deleted events may have; others count under "other".
func (m *metrics) source(h *health, groups []string) *sourceMetrics {
	if m == nil {
		return nil
	}
	m.scraped.add(h)
	return m.counters.of(h.status.Name, groups)
}

// forget drops all series of the source that h is of, unless it was replaced.
func (m *metrics) forget(h *health) {
	if m.scraped.remove(h) {
		m.counters.forget(h.status.Name)
	}
}

// groupNames returns the groups that deletes for a source are counted by: its
// templates and globs.
func groupNames(src Source) []string {
	var names []string
	for _, rule := range src.Rules {
		names = append(names, rule.Keys...)
	}
	return append(names, src.Purge...)
}
