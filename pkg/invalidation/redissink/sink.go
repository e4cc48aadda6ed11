package redissink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Sink deletes from one cache: a server, what Sentinels watch, or a cluster. It
// works only while Run runs. Its methods may be called concurrently.
type Sink struct {
	cfg      Config
	scripts  *scripts
	topology topology
	lease    *lease
	purger   *purger
	earned   earned

	turn   chan struct{}          // Positions, Apply and Rewind take turns
	known  bool                   // of turn: Positions has been called
	layout atomic.Pointer[layout] // what shards follow; changed by the one whose turn it is
	seen   atomic.Pointer[layout] // what was seen last
	resume atomic.Pointer[error]  // why Apply can not go on before Positions
	asking atomic.Bool            // the layout could not be read the last time
	gaps   atomic.Bool            // some slots have no master, and that was told
	dead   atomic.Pointer[dead]   // the master of the lease, where it was waited for in vain

	mu      sync.Mutex
	shards  []*shard      // replaced as a whole
	owed    []string      // positions of masters that were left behind and are gone, until an older one is stored
	changed chan struct{} // closed, and made anew, when the layout changes
}

// New returns a Sink and opens no connection.
func New(cfg Config) (*Sink, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	cfg.Holder.Spare(cfg.Namespace, cfg.Source)
	scripts := newScripts()
	s := &Sink{
		cfg: cfg, scripts: scripts, topology: newTopology(cfg),
		turn: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	s.purger = newPurger(s)
	s.lease = newLease(cfg, scripts, s.whereLease)
	return s, nil
}

// Run keeps the lease, watches which masters there are and makes the purges,
// until ctx is done, and returns its error then, or with an error that wraps
// invalidation.ErrFatal.
func (s *Sink) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return s.keepLease(ctx) })
	all.Go(func() error { return s.identify(ctx) })
	all.Go(func() error { return s.watch(ctx) })
	all.Go(func() error { return s.watchBehind(ctx) })
	all.Go(func() error { return s.purger.run(ctx) })
	return all.Wait()
}

// Close closes the connections. The lease, if held, ends by itself: Release
// ends it at once.
func (s *Sink) Close() error {
	s.topology.close()
	for _, sh := range s.current() {
		sh.close()
	}
	return s.lease.close()
}

// Positions implements invalidation.Sink. It waits until this process leads,
// forgets what the Sink wrote and takes what the cache holds as the truth. A
// master that can not be reached is left out, where there are others.
func (s *Sink) Positions(ctx context.Context) ([]string, error) {
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.give()
	s.known = false
	if err := s.purger.reset(ctx); err != nil {
		return nil, err
	}
	s.earned.set("") // until something is, each master keeps the position that it has
	for {
		if err := s.lead(ctx); err != nil {
			return nil, err
		}
		s.resume.Store(nil)
		positions, err := s.begin(ctx)
		if err != nil && !errors.Is(err, invalidation.ErrResume) {
			return nil, err
		}
		if err == nil {
			s.known = true
			s.dead.Store(nil)
			return append(positions, s.owes()...), nil
		}
	}
}

// Apply implements invalidation.Sink.
func (s *Sink) Apply(ctx context.Context, b invalidation.Batch) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	if err := s.ready(); err != nil {
		return err
	}
	started := time.Now()
	stores := s.earned.get() != ""
	found := &tally{group: s.cfg.Group, counts: map[string]*count{}}
	if err := s.delete(ctx, b.Keys, found); err != nil {
		return s.stop(err)
	}
	if stores {
		s.forgetOwed()
	}
	// Position after effect: every reply above was read. Patterns are
	// deleted beside later batches; the position waits for them.
	s.earned.put(b.Position, s.purger.request(b.Patterns, false))
	found.report(s.cfg.Observer, time.Since(started))
	return nil
}

// Stored returns what each master is known to remember now, "" where that is
// not known or nothing, without asking. Where slots came from another master it
// may be several positions.
func (s *Sink) Stored() []string {
	shards := s.current()
	if len(shards) == 0 {
		return []string{""}
	}
	stored := s.owes()
	for _, sh := range shards {
		stored = append(stored, sh.state.known()...)
	}
	return stored
}

// ErrReplayAsked is in the error with which Apply returns because of a Rewind,
// and in that of the event.
var ErrReplayAsked = errors.New("a replay was asked for")

// Rewind stores the position that choose returns on every master. It has to be
// older than what each of them remembers, which is what choose is given, as
// Stored returns it; nothing is deleted and nothing is forgotten meanwhile.
// After that Apply returns invalidation.ErrResume, so that the Source begins
// there. While a master can not be reached Rewind fails.
func (s *Sink) Rewind(ctx context.Context, choose func(stored []string) (position string, err error)) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.complete(); err != nil {
		return err
	}
	position, err := choose(s.Stored())
	if err != nil {
		return err
	}
	s.earned.set(position)
	// The second pipeline comes after the position is known to be stored. What
	// fails has to begin again as well: purges no longer hold the position.
	for range 2 {
		if err := s.delete(ctx, nil, nil); err != nil {
			return s.stop(fmt.Errorf("%w: %w", ErrReplayAsked, errors.Join(err, invalidation.ErrResume)))
		}
	}
	_ = s.stop(fmt.Errorf("%w: %w", ErrReplayAsked, invalidation.ErrResume))
	return s.complete() // one may have been left behind just now
}

// complete says which master is left behind.
func (s *Sink) complete() error {
	for _, sh := range s.current() {
		if sh.state.isBehind() {
			return fmt.Errorf("the master %s can not be reached, and does not get the position: ask again when it is back", sh.address())
		}
	}
	return nil
}

// ready returns why Apply can not go on.
func (s *Sink) ready() error {
	if err := s.resume.Load(); err != nil {
		return *err
	}
	if !s.known {
		return fmt.Errorf("apply before Positions: %w", invalidation.ErrResume)
	}
	return nil
}

// stop makes an invalidation.ErrResume last until Positions is called.
func (s *Sink) stop(err error) error {
	if errors.Is(err, invalidation.ErrResume) && s.resume.CompareAndSwap(nil, &err) {
		s.observe(invalidation.Event{Kind: invalidation.Replaying, Part: invalidation.PartCache, Err: err})
	}
	return err
}

// whereLease returns the layout that was seen last, or asks for one.
func (s *Sink) whereLease(ctx context.Context) (*layout, error) {
	if seen := s.seen.Load(); seen != nil {
		return seen, nil
	}
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	return s.seen.Load(), nil
}

func (s *Sink) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Sink) give() { <-s.turn }

// current returns the masters as of now.
func (s *Sink) current() []*shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shards
}

func (s *Sink) replace(shards []*shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards = shards
}

func (s *Sink) observe(e invalidation.Event) { s.cfg.Observer.Observe(e) }
