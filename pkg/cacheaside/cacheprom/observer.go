package cacheprom

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
)

// Options configure an [Observer]. The zero value is the default.
type Options struct {
	// Labels are added to every series, such as the name of the cache when a program has several. Default: none.
	Labels prometheus.Labels

	// Buckets are those of the histogram of loads, in seconds. Default: 1 ms to 10 s.
	Buckets []float64
}

// Observer is a cacheaside.Observer and a prometheus.Collector:
//
//   - cacheaside_events_total{kind}: every event but the breakers', by its kind
//   - cacheaside_load_duration_seconds{result}: loads, which ended filled, rejected, not_filled, refreshed, absent or failed
//   - cacheaside_breaker_open{breaker}: 1 while the breaker of redis, or of one loader at least, is open
//   - cacheaside_owed_deletes_dropped_total: entries that may be stale until their TTL; to be alerted on
type Observer struct {
	events  [cacheaside.Kinds]prometheus.Counter
	loads   [cacheaside.Kinds]prometheus.Observer
	dropped prometheus.Counter
	redis   prometheus.Gauge
	loader  prometheus.Gauge
	all     []prometheus.Collector
}

// New returns an Observer, which has to be registered.
func New(o Options) *Observer {
	if o.Buckets == nil {
		o.Buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	}
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cacheaside_events_total", Help: "What happened, by kind.", ConstLabels: o.Labels,
	}, []string{"kind"})
	loads := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "cacheaside_load_duration_seconds", Help: "How long loads took, by how they ended.", ConstLabels: o.Labels, Buckets: o.Buckets,
	}, []string{"result"})
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cacheaside_breaker_open", Help: "How many circuit breakers are open.", ConstLabels: o.Labels,
	}, []string{"breaker"})
	dropped := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cacheaside_owed_deletes_dropped_total", Help: "Deletes that were given up: entries that may be stale until their TTL.", ConstLabels: o.Labels,
	})
	p := &Observer{
		dropped: dropped, redis: open.WithLabelValues("redis"), loader: open.WithLabelValues("loader"),
		all: []prometheus.Collector{events, loads, open, dropped},
	}
	for k := cacheaside.EventHit; k < cacheaside.Kinds; k++ {
		if k != cacheaside.EventOpened && k != cacheaside.EventClosed {
			p.events[k] = events.WithLabelValues(k.String())
		}
	}
	for k, result := range map[cacheaside.EventKind]string{
		cacheaside.EventFilled: "filled", cacheaside.EventRejected: "rejected", cacheaside.EventNotFilled: "not_filled",
		cacheaside.EventRefreshed: "refreshed", cacheaside.EventFilledAbsent: "absent", cacheaside.EventLoadFailed: "failed",
	} {
		p.loads[k] = loads.WithLabelValues(result)
	}
	return p
}

// Observe implements cacheaside.Observer.
func (p *Observer) Observe(e cacheaside.Event) {
	if e.Kind <= 0 || e.Kind >= cacheaside.Kinds {
		return
	}
	switch e.Kind {
	case cacheaside.EventOpened:
		p.breaker(e.Err).Inc()
		return
	case cacheaside.EventClosed:
		p.breaker(e.Err).Dec()
		return
	case cacheaside.EventOwedDropped:
		p.dropped.Inc()
	}
	p.events[e.Kind].Inc()
	if h := p.loads[e.Kind]; h != nil {
		h.Observe(e.Took.Seconds())
	}
}

func (p *Observer) breaker(err error) prometheus.Gauge {
	if errors.Is(err, cacheaside.ErrRedisOpen) {
		return p.redis
	}
	return p.loader
}

// Describe implements prometheus.Collector.
func (p *Observer) Describe(to chan<- *prometheus.Desc) {
	for _, c := range p.all {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (p *Observer) Collect(to chan<- prometheus.Metric) {
	for _, c := range p.all {
		c.Collect(to)
	}
}
