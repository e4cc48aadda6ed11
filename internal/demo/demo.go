package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/sync/errgroup"
)

// ErrStale is wrapped by what Run returns when entries are stale at the end.
var ErrStale = errors.New("stale")

const lookPause = 250 * time.Millisecond

// demo is everything that runs.
type demo struct {
	opts   Options
	counts *counts
	db     *database
	server *miniredis.Miniredis
	redis  *redis.Client // the auditor's; no faults
	app    *application
	audit  *auditor
	relay  *relay // nil with NoDaemon
}

// Run runs the demo for Options.Duration or until ctx is done, lets the relay
// finish, and compares the cache with the database. It returns an error that
// wraps ErrStale if they differ. Everything it started is stopped, and its
// files are removed, when it returns.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	d := &demo{opts: o.withDefaults(), counts: &counts{}}
	address, stop, err := openPage(ctx, d.opts, d.counts)
	if err != nil {
		return err
	}
	defer stop()
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx); err != nil {
		return err
	}
	d.say(d.introduction(address))
	if err := d.load(ctx); err != nil {
		return err
	}
	return d.finish(context.WithoutCancel(ctx))
}

// open starts everything but the load.
func (d *demo) open(ctx context.Context) (err error) {
	if d.db, err = openDatabase(ctx); err != nil {
		return err
	}
	d.server = miniredis.NewMiniRedis()
	if err := d.server.Start(); err != nil {
		return fmt.Errorf("start the embedded Redis: %w", err)
	}
	d.redis = redis.NewClient(redisOptions(d.server.Addr()))
	ledger := newLedger()
	if d.app, err = newApplication(d.db, d.server.Addr(), ledger, d.counts, d.opts.Lose); err != nil {
		return err
	}
	d.audit = &auditor{db: d.db, redis: d.redis, ledger: ledger, counts: d.counts}
	if d.opts.NoDaemon {
		return nil
	}
	if d.relay, err = startRelay(ctx, d.server.Addr(), d.audit); err != nil {
		return err
	}
	return d.relay.begin(ctx)
}

// close stops what open started, as far as it came.
func (d *demo) close() error {
	var errs []error
	if d.relay != nil {
		errs = append(errs, d.relay.close())
	}
	if d.app != nil {
		errs = append(errs, d.app.close())
	}
	if d.redis != nil {
		errs = append(errs, d.redis.Close())
	}
	if d.server != nil {
		d.server.Close()
	}
	if d.db != nil {
		errs = append(errs, d.db.close())
	}
	return errors.Join(errs...)
}

// load reads, writes, looks and reports until the time is over, ctx is done or
// something fails.
func (d *demo) load(ctx context.Context) error {
	started := time.Now()
	if d.opts.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.opts.Duration)
		defer cancel()
	}
	group, ctx := errgroup.WithContext(ctx)
	start := func(n int, pause time.Duration, do func(ctx context.Context) error) {
		for range n {
			group.Go(func() error { return repeat(ctx, pause, do) })
		}
	}
	start(readers, readPause, d.app.read)
	start(writers, writePause, d.app.write)
	start(1, lookPause, func(ctx context.Context) error { return d.audit.look(ctx, false) })
	start(1, time.Second, func(context.Context) error {
		d.server.FastForward(time.Second) // the embedded Redis has no clock of its own
		d.say(fmt.Sprintf("%.0fs %s", time.Since(started).Seconds(), d.counts.now().progress()))
		return nil
	})
	if d.relay != nil {
		group.Go(func() error { return d.relay.watch(ctx) })
	}
	return group.Wait()
}

// repeat calls do with a pause between the beginnings, until ctx is done. A
// call that has begun is not cut off.
func repeat(ctx context.Context, pause time.Duration, do func(ctx context.Context) error) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := do(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

// finish says what is left when the application has stopped.
func (d *demo) finish(ctx context.Context) error {
	if d.relay != nil {
		if err := d.relay.finish(ctx); err != nil {
			return err
		}
	}
	if err := d.audit.look(ctx, true); err != nil {
		return err
	}
	n := d.counts.now()
	d.say(n.summary())
	switch {
	case n.staleNow == 0:
		return nil
	case d.opts.NoDaemon:
		return fmt.Errorf("%d entries are %w, and nothing will delete them: this is what happens without the daemon (the same without --no-daemon ends with 0)", n.staleNow, ErrStale)
	}
	return fmt.Errorf("%d entries are %w although the relay has applied everything: this is a bug, please report it", n.staleNow, ErrStale)
}

func (d *demo) introduction(address string) string {
	text := fmt.Sprintf("demo: %d users in SQLite (%s), cached in an embedded Redis (%s); %g%% of the application's deletes are lost",
		userCount, d.db.dir, d.server.Addr(), 100*d.opts.Lose)
	if d.opts.NoDaemon {
		text += ", nothing repairs them"
	} else {
		text += ", the relay repairs them"
	}
	if address != "" {
		text += "; see http://" + address + "/"
	}
	if d.opts.Duration == 0 {
		text += "; Ctrl-C ends it"
	}
	return text
}

func (d *demo) say(line string) { _, _ = fmt.Fprintln(d.opts.Out, line) }

func redisOptions(addr string) *redis.Options {
	return &redis.Options{
		Addr:                     addr,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}
