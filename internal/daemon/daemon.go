package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// stopWithin is how long a shutdown waits for the sources.
const stopWithin = 5 * time.Second

// Options are what is not in the configuration file.
type Options struct {
	// Logger is where the daemon writes what happens. Default: nowhere.
	Logger *slog.Logger
	// DryRun makes the daemon print here what it would delete, from now
	// on, instead of deleting. It contacts no Redis and serves no HTTP.
	// Default: not a dry run.
	DryRun io.Writer
}

// Run runs the daemon until ctx is done, and returns nil then, or until
// something fails that only a person can heal. It opens http.listen before it
// contacts any server. No error or log line holds a secret of cfg.
func Run(ctx context.Context, cfg Config, opts Options) error {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	w := wiring{cfg: cfg, log: opts.Logger, redact: newRedactor(cfg.secrets()...)}
	if opts.DryRun != nil {
		w.dryRun = &printer{out: opts.DryRun}
	}
	supervisors := w.supervisors()
	if w.dryRun != nil {
		return w.redact.error(superviseAll(ctx, opts.Logger, supervisors))
	}
	return w.redact.error(runWithAdmin(ctx, cfg.HTTP.Listen, opts.Logger, supervisors))
}

// runWithAdmin serves the admin pages for as long as the sources run.
func runWithAdmin(ctx context.Context, listen string, log *slog.Logger, supervisors []supervisor) error {
	pages := &admin{}
	for _, s := range supervisors {
		pages.sources = append(pages.sources, s.watch.health)
	}
	server, err := startAdmin(ctx, listen, pages)
	if err != nil {
		return err
	}
	defer server.stop()
	log.LogAttrs(ctx, slog.LevelInfo, "started", slog.String("http", server.addr()), slog.Int("sources", len(supervisors)))
	pages.alive.Store(true)
	defer pages.alive.Store(false)
	return superviseAll(ctx, log, supervisors)
}

// superviseAll runs all sources until ctx is done or one fails for good; then
// it stops the others.
func superviseAll(ctx context.Context, log *slog.Logger, supervisors []supervisor) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(supervisors))
	for _, s := range supervisors {
		go func() { ended <- s.run(ctx) }()
	}
	var failed error
	var overdue <-chan time.Time
	stopping := ctx.Done()
	for left := len(supervisors); left > 0; {
		select {
		case err := <-ended:
			left--
			if errors.Is(err, invalidation.ErrFatal) {
				failed = errors.Join(failed, err)
				cancel()
			}
		case <-stopping:
			log.LogAttrs(ctx, slog.LevelInfo, "stopping")
			timer := time.NewTimer(stopWithin)
			defer timer.Stop()
			stopping, overdue = nil, timer.C
		case <-overdue:
			log.LogAttrs(ctx, slog.LevelWarn, "sources did not stop in time: what they had not deleted is read again at the next start", slog.Int("sources", left))
			return failed
		}
	}
	return failed
}
