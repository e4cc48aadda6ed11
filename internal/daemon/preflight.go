package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// checkWithin bounds the checks of one server.
const checkWithin = 30 * time.Second

// Checked is a Finding and what it is of: "redis", or the name of a source.
type Checked struct {
	Of string `json:"of"`
	invalidation.Finding
}

// Check asks Redis and all sources whether the daemon could do its work with
// them. It changes nothing. No text holds a secret of cfg.
func Check(ctx context.Context, cfg Config) []Checked {
	w := offline(cfg)
	found := make([][]Checked, 1+len(cfg.Sources))
	var running sync.WaitGroup
	running.Go(func() { found[0] = w.checkRedis(ctx) })
	for i, src := range cfg.Sources {
		running.Go(func() { found[i+1] = w.checkSource(ctx, src) })
	}
	running.Wait()
	var all []Checked
	for _, some := range found {
		all = append(all, some...)
	}
	return all
}

func (w wiring) checkRedis(ctx context.Context) []Checked {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	var wanted []redissink.Wanted
	for _, src := range w.cfg.Sources {
		at, err := w.sinkConfig(src)
		if err != nil {
			return w.checked("redis", invalidation.Fail.Of("tls", err.Error(), "correct redis.tls"))
		}
		patterns, err := src.patterns()
		if err != nil {
			return w.checked("redis", invalidation.Fail.Of("rules", err.Error(), "correct the rules"))
		}
		if read, err := w.reader(src, dryRunSink{}, invalidation.NoObserver()); err == nil {
			at.Identity = identity(src, &assembly{reader: read})
		}
		wanted = append(wanted, redissink.Wanted{Config: at, Patterns: patterns, IsTemplates: src.MySQL != nil})
	}
	return w.checked("redis", redissink.Check(ctx, wanted...)...)
}

func (w wiring) checkSource(ctx context.Context, src Source) []Checked {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	read, err := w.reader(src, dryRunSink{}, invalidation.NoObserver())
	if err != nil {
		return w.checked(src.Name, invalidation.Fail.Of("configuration", err.Error(), "correct the source's section"))
	}
	stored, unreadable := w.remembered(ctx, src)
	found := read.Check(ctx, stored)
	if unreadable != nil {
		found = append(found, invalidation.Fail.Of("position", unreadable.Error(),
			"run the newer version, or delete that key to purge and start anew"))
	}
	return w.checked(src.Name, found...)
}

// remembered returns what the cache remembers of a source; nil where it can
// not be asked, of which the checks of Redis tell, or where nobody can read it.
func (w wiring) remembered(ctx context.Context, src Source) (stored []string, unreadable error) {
	at, err := w.sinkConfig(src)
	if err != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	state, err := redissink.Look(ctx, at)
	if errors.Is(err, redissink.ErrUnreadable) {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	for _, master := range state.Masters {
		stored = append(stored, master.Position)
	}
	return stored, nil
}

func (w wiring) checked(of string, findings ...invalidation.Finding) []Checked {
	all := make([]Checked, len(findings))
	for i, f := range findings {
		f.Text, f.Fix = w.redact.text(f.Text), w.redact.text(f.Fix)
		all[i] = Checked{of, f}
	}
	return all
}
