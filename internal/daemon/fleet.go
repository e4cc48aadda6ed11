package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// stopWithin is how long a shutdown waits for the sources. With what comes
// after it, all of it takes less than 5 seconds.
const stopWithin = 4500 * time.Millisecond

// errRemoved is the cause of a stop of what the configuration no longer has.
var errRemoved = errors.New("removed from the configuration")

// member is one source that runs.
type member struct {
	*supervisor

	source Source
	spec   spec
	// lenient: the source came with a reload. Where it fails for good before
	// it has worked, it is the one that ends: the others run well without it.
	lenient bool

	stop  context.CancelCauseFunc
	ended chan struct{} // closed when nothing of it runs any more
	err   error         // why it ended; valid once ended is closed
}

// isOver reports whether the member has ended.
func (m *member) isOver() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// fleet is all sources of the daemon. One goroutine starts and stops them; any
// may look at them.
type fleet struct {
	log    *slog.Logger
	failed chan struct{} // has room for one: some member failed

	mu      sync.Mutex
	members []*member // in the order of the configuration
}

func newFleet(log *slog.Logger) *fleet {
	return &fleet{log: log, failed: make(chan struct{}, 1)}
}

// all returns the members in the order of the configuration.
func (f *fleet) all() []*member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.members)
}

func (f *fleet) byName() map[string]*member {
	named := map[string]*member{}
	for _, m := range f.all() {
		named[m.source.Name] = m
	}
	return named
}

func (f *fleet) set(members []*member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = members
}

// start runs a member until it is stopped or fails for good.
func (f *fleet) start(ctx context.Context, m *member) {
	m.ended = make(chan struct{})
	ctx, m.stop = context.WithCancelCause(ctx)
	go func() {
		defer tell(f.failed)
		defer close(m.ended)
		defer m.stop(nil)
		m.err = m.run(ctx)
		if !errors.Is(context.Cause(ctx), errReplaced) {
			m.feed.ended()
		}
		if m.failed() && m.isSpared() {
			m.watch.endedForGood(m.err)
		}
	}()
}

// failed reports whether only a person can heal why it ended.
func (m *member) failed() bool { return errors.Is(m.err, invalidation.ErrFatal) }

// isSpared reports whether the others go on without it, where it failed.
func (m *member) isSpared() bool { return m.lenient && !m.watch.hasWorked() }

// untilEnded waits until the members have ended, or ctx, or stopWithin, and returns
// how many have not.
func untilEnded(ctx context.Context, members []*member) (left int) {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	for _, m := range members {
		select {
		case <-m.ended:
		case <-ctx.Done():
		}
		if !m.isOver() {
			left++
		}
	}
	return left
}

// run runs the members until ctx is done or one fails for good; then it stops
// all of them and returns the errors of those that failed. Meanwhile it calls
// reload for whoever asks.
func (f *fleet) run(ctx context.Context, reloads <-chan reloadRequest, hangup <-chan os.Signal, reload func(context.Context) (Reloaded, error)) error {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, m := range f.all() {
		f.start(running, m)
	}
	for waiting := true; waiting; {
		select {
		case request := <-reloads:
			done, err := reload(running)
			request.answer <- reloadAnswer{done, err}
		case <-hangup:
			_, _ = reload(running) // the log has it
		case <-f.failed:
			// A reload may have replaced it meanwhile.
			waiting = failures(f.all()) == nil
		case <-ctx.Done():
			waiting = false
		}
	}
	f.log.LogAttrs(ctx, slog.LevelInfo, "stopping")
	cancel()
	members := f.all()
	if left := untilEnded(context.WithoutCancel(ctx), members); left > 0 {
		f.log.LogAttrs(ctx, slog.LevelWarn, "sources did not stop in time: what they had not deleted is read again at the next start", slog.Int("sources", left))
	}
	return failures(members)
}

// failures joins why members failed for good.
func failures(members []*member) error {
	var failed error
	for _, m := range members {
		if m.isOver() && m.failed() && !m.isSpared() {
			failed = errors.Join(failed, m.err)
		}
	}
	return failed
}
