package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// rehearseWithin bounds what a reload asks of servers, all of it together.
const rehearseWithin = 5 * time.Second

// reloadRequest asks for a reload. The answer has room for one.
type reloadRequest struct{ answer chan reloadAnswer }

type reloadAnswer struct {
	done Reloaded
	err  error
}

// Reloaded says what a reload did with each source.
type Reloaded struct {
	Started   []string `json:"started"`
	Restarted []string `json:"restarted"`
	Stopped   []string `json:"stopped"`
	Unchanged []string `json:"unchanged"`
}

var (
	errNoReload = errors.New("this daemon was started without a configuration file to read again")
	errStopping = errors.New("the daemon stops")
)

// spec is everything that one source is made from. Two that are equal make the
// same source.
type spec struct {
	namespace string
	redis     Redis
	purgeRate int
	showKeys  bool
	source    Source
	files     [sha256.Size]byte // of the TLS sections: a path stays when a certificate is renewed
}

func specOf(cfg Config, src Source) spec {
	sections := []*TLS{cfg.Redis.TLS}
	if src.MySQL != nil {
		sections = append(sections, src.MySQL.TLS)
	}
	if src.Postgres != nil {
		sections = append(sections, src.Postgres.TLS)
	}
	return spec{cfg.Namespace, cfg.Redis, cfg.PurgeRate, cfg.ShowKeys, src, digest(sections)}
}

func (s spec) equals(o spec) bool { return reflect.DeepEqual(s, o) }

// stays reports whether a member runs as it should; nil is none.
func (m *member) stays(will spec) bool { return m != nil && m.spec.equals(will) && !m.isOver() }

// sameLease reports whether both have their lease at the same place.
func (s spec) sameLease(o spec) bool {
	return s.namespace == o.namespace && s.source.Name == o.source.Name &&
		s.redis.Mode == o.redis.Mode && reflect.DeepEqual(s.redis.Addrs, o.redis.Addrs) &&
		s.redis.MasterName == o.redis.MasterName && s.redis.DB == o.redis.DB
}

// digest returns what changes with the files of the sections. Load has read
// them; what can not be read now counts as empty.
func digest(sections []*TLS) (sum [sha256.Size]byte) {
	hash := sha256.New()
	for _, t := range sections {
		if t == nil {
			continue
		}
		for _, file := range []string{t.CAFile, t.CertFile, t.KeyFile} {
			content, _ := os.ReadFile(file) //nolint:gosec // the operator names the file
			_, _ = fmt.Fprintf(hash, "%d ", len(content))
			_, _ = hash.Write(content)
		}
	}
	hash.Sum(sum[:0])
	return sum
}

// reload reads the configuration again and makes the sources those that it
// describes. Whatever is wrong with it, nothing has changed then.
func (d *daemon) reload(ctx context.Context) (Reloaded, error) {
	if d.load == nil {
		return Reloaded{}, errNoReload
	}
	cfg, err := d.load()
	if err == nil {
		err = d.mayBecome(cfg)
	}
	if err == nil {
		err = cfg.Redact(d.mayStart(ctx, cfg))
	}
	if ctx.Err() != nil {
		return Reloaded{}, errStopping
	}
	d.metrics.reloaded(err)
	if err != nil {
		err = d.hide(err)
		d.refused(ctx, err)
		return Reloaded{}, err
	}
	d.become(cfg)
	done := d.replace(ctx)
	d.log.LogAttrs(ctx, slog.LevelInfo, "reloaded",
		slog.String("started", strings.Join(done.Started, " ")), slog.String("restarted", strings.Join(done.Restarted, " ")),
		slog.String("stopped", strings.Join(done.Stopped, " ")), slog.String("unchanged", strings.Join(done.Unchanged, " ")))
	return done, nil
}

// mayBecome refuses what needs a new process.
func (d *daemon) mayBecome(cfg Config) error {
	var errs []error
	if old := d.wiring.cfg.HTTP; cfg.HTTP.Listen != old.Listen {
		errs = append(errs, fmt.Errorf("http.listen: can not change from %s to %s while the daemon runs: restart it, or set the old address again", old.Listen, cfg.HTTP.Listen))
	}
	if old := d.wiring.cfg.HTTP; cfg.HTTP.Socket != old.Socket {
		errs = append(errs, fmt.Errorf("http.socket: can not change from %q to %q while the daemon runs: restart it, or set the old path again", old.Socket, cfg.HTTP.Socket))
	}
	return errors.Join(errs...)
}

// mayStart refuses sources that would end at once, where only a person can heal
// it: the old ones run on. A server that can not be reached refuses nothing.
func (d *daemon) mayStart(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, rehearseWithin)
	defer cancel()
	old := d.fleet.byName()
	type answer struct {
		source int
		err    error
	}
	errs, answers, asked := make([]error, len(cfg.Sources)), make(chan answer, len(cfg.Sources)), 0
	for i, src := range cfg.Sources {
		if !old[src.Name].stays(specOf(cfg, src)) {
			asked++
			go func() { answers <- answer{i, d.rehearse(ctx, cfg, src)} }()
		}
	}
	for range asked {
		select {
		case a := <-answers:
			errs[a.source] = a.err
		case <-ctx.Done(): // nobody waits for what is silent
		}
	}
	// All sources have the same Redis, and it says the same of all of them.
	return errors.Join(slices.CompactFunc(errs, func(a, b error) bool { return a != nil && b != nil && a.Error() == b.Error() })...)
}

// rehearse asks Redis and the database of a source what its start would, and
// returns what would end that for good.
func rehearse(ctx context.Context, cfg Config, src Source) error {
	w := offline(cfg)
	at, err := w.sinkConfig(src)
	if err != nil {
		return err
	}
	read, err := w.reader(src, dryRunSink{}, invalidation.NoObserver())
	if err != nil {
		return err
	}
	var unread, refused error
	var asking sync.WaitGroup
	asking.Go(func() { _, unread = read.Now(ctx) })
	asking.Go(func() { refused = redissink.MayStart(ctx, at) })
	_, unseen := redissink.Look(ctx, at)
	asking.Wait()
	for _, err := range []error{unseen, refused, unread} {
		if errors.Is(err, invalidation.ErrFatal) {
			return err
		}
	}
	return nil
}

// refused logs each line of what is wrong with a configuration.
func (d *daemon) refused(ctx context.Context, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		d.log.LogAttrs(ctx, slog.LevelError, "reload refused: the old configuration stays", slog.String("error", line))
	}
}

// replace stops the members that the configuration no longer has as they are,
// and starts those that it has and that do not run.
func (d *daemon) replace(ctx context.Context) (done Reloaded) {
	done = Reloaded{Started: []string{}, Restarted: []string{}, Stopped: []string{}, Unchanged: []string{}} // lists in JSON, too
	old := d.fleet.byName()
	var next, begin, end []*member
	for _, src := range d.wiring.cfg.Sources {
		before, will := old[src.Name], specOf(d.wiring.cfg, src)
		delete(old, src.Name)
		switch {
		case before == nil:
			done.Started = append(done.Started, src.Name)
		case before.stays(will):
			done.Unchanged = append(done.Unchanged, src.Name)
			next = append(next, before)
			continue
		default:
			done.Restarted = append(done.Restarted, src.Name)
			before.stop(stopCause(before.spec, will))
			end = append(end, before)
		}
		m := d.member(src)
		m.lenient = true
		if before != nil && before.spec.sameLease(will) {
			m.feed = before.feed // what operators want purged there is still owed
		}
		begin, next = append(begin, m), append(next, m)
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		done.Stopped = append(done.Stopped, name)
		old[name].stop(errRemoved)
		end = append(end, old[name])
	}
	if left := untilEnded(ctx, end); left > 0 {
		d.log.LogAttrs(ctx, slog.LevelWarn, "sources did not stop in time: their successors begin beside them", slog.Int("sources", left))
	}
	for _, m := range old {
		d.metrics.forget(m.watch.health)
	}
	for _, m := range begin {
		d.fleet.start(ctx, m)
	}
	d.fleet.set(next)
	return done
}

// stopCause says whether the source that was keeps its lease for the one that
// will be.
func stopCause(was, will spec) error {
	if was.sameLease(will) {
		return errReplaced
	}
	return errRemoved
}
