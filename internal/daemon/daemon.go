package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// Options are what is not in the configuration file.
type Options struct {
	// Logger is where the daemon writes what happens. Default: nowhere.
	Logger *slog.Logger
	// DryRun makes the daemon print here what it would delete, from now
	// on, instead of deleting. It contacts no Redis and serves no HTTP.
	// Default: not a dry run.
	DryRun io.Writer
	// Load reads the configuration again, for a reload. Default: reloads
	// are refused.
	Load func() (Config, error)
	// Version and Revision are the build's, for the metrics.
	Version, Revision string
	// Hangup asks for a reload with each signal. Default: only the admin
	// server does.
	Hangup <-chan os.Signal
}

// daemon is what runs. The goroutine of Run owns it, but for what has a lock of
// its own.
type daemon struct {
	wiring  wiring
	fleet   *fleet
	guard   *guard
	metrics *metrics
	log     *slog.Logger
	load    func() (Config, error)
	// rehearse says what would end a source for good at its start.
	rehearse func(context.Context, Config, Source) error
	secrets  []string                 // all that any configuration had so far
	redact   atomic.Pointer[redactor] // of these
}

// Run runs the daemon until ctx is done, and returns nil then, or until
// something fails that only a person can heal. It opens http.listen before it
// contacts any server. No error or log line holds a secret of cfg.
func Run(ctx context.Context, cfg Config, opts Options) error {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	d := newDaemon(cfg, opts)
	if opts.DryRun != nil {
		return d.hide(d.runSources(ctx, nil, nil))
	}
	return d.hide(d.runWithAdmin(ctx, opts.Hangup))
}

func newDaemon(cfg Config, opts Options) *daemon {
	d := &daemon{
		wiring: wiring{log: opts.Logger}, fleet: newFleet(opts.Logger), guard: newGuard(cfg.HTTP),
		log: opts.Logger, load: opts.Load, rehearse: rehearse,
	}
	if opts.DryRun != nil {
		d.wiring.dryRun = &printer{out: opts.DryRun}
	} else {
		d.metrics = newMetrics(opts.Version, opts.Revision)
		d.wiring.metrics = d.metrics
	}
	d.become(cfg)
	return d
}

// become makes a configuration the one in force.
func (d *daemon) become(cfg Config) {
	// What an old configuration hid stays hidden: its errors may come late.
	d.secrets = append(d.secrets, cfg.secrets()...)
	redact := newRedactor(d.secrets...)
	d.redact.Store(&redact)
	d.wiring.cfg, d.wiring.redact = cfg, redact
	d.guard.set(cfg.HTTP.Token)
}

// hide returns err without secrets.
func (d *daemon) hide(err error) error { return d.redact.Load().error(err) }

// member returns a source that does not run yet.
func (d *daemon) member(src Source) *member {
	return &member{supervisor: d.wiring.supervisor(src), source: src, spec: specOf(d.wiring.cfg, src)}
}

// runWithAdmin serves the admin pages for as long as the sources run.
func (d *daemon) runWithAdmin(ctx context.Context, hangup <-chan os.Signal) error {
	reloads := make(chan reloadRequest)
	pages := &admin{
		members: d.fleet.all, guard: d.guard, hide: d.hide, metrics: d.metrics.handler(),
		reloads: reloads, stopping: ctx.Done(),
	}
	server, err := startAdmin(ctx, d.wiring.cfg.HTTP, pages)
	if err != nil {
		return err
	}
	defer server.stop()
	d.wiring.holder = redissink.NewHolder(holderName(server.addr()))
	d.log.LogAttrs(ctx, slog.LevelInfo, "started", slog.String("http", server.addr()), slog.Int("sources", len(d.wiring.cfg.Sources)))
	pages.alive.Store(true)
	defer pages.alive.Store(false)
	return d.runSources(ctx, reloads, hangup)
}

// holderName is how others see who leads. A process that is started again has
// the same one, and so takes its own lease back at once.
func holderName(address string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return host + "/" + address
}

// runSources runs all sources until ctx is done or one fails for good.
func (d *daemon) runSources(ctx context.Context, reloads chan reloadRequest, hangup <-chan os.Signal) error {
	members := make([]*member, len(d.wiring.cfg.Sources))
	for i, src := range d.wiring.cfg.Sources {
		members[i] = d.member(src)
	}
	d.fleet.set(members)
	return d.fleet.run(ctx, reloads, hangup, d.reload)
}
