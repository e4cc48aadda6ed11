package daemon

import (
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// wedgedAfter is how long nothing may be heard until a goroutine is taken to
// hang. It is longer than every bounded wait: Redis has 3 s for an answer, a
// connection 5 s, the gate 10 s. All that waits for longer says so every few
// seconds.
const wedgedAfter = 30 * time.Second

// callsTakeLong is how long the source waits for the cache until that is what
// holds it up.
const callsTakeLong = 2 * time.Second

// life tells a source that waits from one that hangs. Either the source itself
// is heard, or it waits for the cache, and then the cache is. That the one is
// heard proves nothing of the other: a Sink talks on while the source hangs.
type life struct {
	source, cache time.Time // when each was last heard
	calls         int       // of the source that the cache has not answered
}

func newLife(now time.Time) life { return life{source: now, cache: now} }

func (l *life) called(now time.Time) {
	l.calls++
	l.source, l.cache = now, now
}

func (l *life) returned(now time.Time) {
	l.calls = max(0, l.calls-1)
	l.source, l.cache = now, now
}

// hear notes whose event it is. What goes on in the background is nobody's
// sign of life.
func (l *life) hear(now time.Time, e invalidation.Event) {
	switch e.Kind { //nolint:exhaustive // Waiting and Working have a part
	case invalidation.PurgeStarted, invalidation.PurgeProgress, invalidation.PurgeDone,
		invalidation.Parked, invalidation.Pruned, invalidation.Noted:
	case invalidation.Advanced, invalidation.Gated, invalidation.Lost, invalidation.Incomplete:
		l.source = now
	case invalidation.Deleted, invalidation.Replaying, invalidation.Standby, invalidation.Leading:
		l.cache = now
	default:
		switch boundedPart(e.Part) {
		case invalidation.PartSource, invalidation.PartGate:
			l.source = now
		case invalidation.PartLease: // it is renewed in the background
		default:
			l.cache = now
		}
	}
}

// heard returns when whoever has to be heard was, and who that is.
func (l *life) heard() (time.Time, string) {
	if l.calls > 0 {
		return l.cache, "the cache, which the source waits for"
	}
	return l.source, "the source"
}

// silent says who was not heard for too long; "" where nobody was.
func (l *life) silent(now time.Time) string {
	last, who := l.heard()
	if age := now.Sub(last); age > wedgedAfter {
		return fmt.Sprintf("nothing was heard for %s from %s: it hangs: restart this process", age.Round(time.Second), who)
	}
	return ""
}

// wedged says why nothing but a restart of the process will help the source;
// "" where it works or waits for something that can come back.
func (h *health) wedged(now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent(now)
}

// silent is that of life, but for a source that has ended and told so.
func (h *health) silent(now time.Time) string {
	if h.ended {
		return ""
	}
	return h.life.silent(now)
}
