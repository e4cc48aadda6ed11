package daemon

import (
	"context"
	"time"
)

const (
	// lagEvery is how often a leader asks its log how far behind it is.
	lagEvery = 10 * time.Second
	// parkedEvery is how often it counts the parked keys, which in a cluster
	// may be in any slot. Events tell of each one that is added.
	parkedEvery = time.Minute
)

// poller asks, while its source leads, for what no event tells. It is a part.
type poller struct {
	watch  watch
	reader reader
	cache  cache
}

// Run polls until ctx is done. That nobody answers is for the others to say.
func (p poller) Run(ctx context.Context) error {
	var counted time.Time
	for pause := time.Second; ; pause = lagEvery {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		if !p.cache.Leads() {
			continue
		}
		within, cancel := context.WithTimeout(ctx, lagEvery)
		if behind, err := p.reader.Behind(within); err == nil {
			p.watch.SetLag(behind.Transactions, behind.Bytes)
		}
		if time.Since(counted) >= parkedEvery {
			if keys, err := p.cache.Parked(within); err == nil {
				p.watch.SetParked(len(keys))
				counted = time.Now()
			}
		}
		cancel()
	}
}
