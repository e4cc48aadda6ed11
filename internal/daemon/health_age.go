package daemon

import (
	"maps"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// idleFor is how long it counts that the log was empty: a source looks once a
// second.
const idleFor = 3 * time.Second

// coverage knows up to when every commit is known to be deleted, and so how old
// the oldest one is that may not be. The age is an upper bound:
//
//   - 0 while the log said in the last 3 seconds that it holds nothing more,
//     no part waits and no purge is owed;
//   - else the time since the newest commit that was deleted, or since the log
//     was last empty, whichever was said last. It grows by a second each second
//     for as long as neither is said again, whatever the reason;
//   - a purge holds it at what was known when it was asked for, and a master
//     that is left behind at what was known then, until they are done;
//   - before anything is known, the time since this process started or stopped
//     standing by, which is the least that it can be.
//
// Times of commits are the database's clock. One that is ahead counts as now.
type coverage struct {
	until time.Time            // every commit before it is deleted, but for what is held
	idle  time.Time            // when the log was last empty; zero: it was not since
	held  map[string]time.Time // what is owed -> until, when it came to be
}

func newCoverage(now time.Time) coverage {
	return coverage{until: now, held: map[string]time.Time{}}
}

// advance hears of an Advanced event, which moved or only repeated itself.
func (c *coverage) advance(now time.Time, e invalidation.Event, moved bool) {
	switch {
	case e.Idle:
		c.until, c.idle = now, now
	case moved:
		c.idle = time.Time{}
		if !e.At.IsZero() {
			// Not the newest of all: after a replay it goes back.
			c.until = earlier(e.At, now)
		}
	}
}

// doubt says that what was deleted may be back.
func (c *coverage) doubt() { c.idle = time.Time{} }

// hold says that something is owed from now on, which later progress does not
// prove.
func (c *coverage) hold(what string) {
	if _, already := c.held[what]; !already {
		c.held[what] = c.until
	}
}

func (c *coverage) release(what string) { delete(c.held, what) }

// move gives what is owed another name.
func (c *coverage) move(from, to string) {
	if since, ok := c.held[from]; ok {
		c.held[to] = since
		delete(c.held, from)
	}
}

// restart forgets what is owed, but not since when.
func (c *coverage) restart() { c.drop(func(string) bool { return true }) }

// drop is restart for some of what is owed: it will be again, or has to be.
func (c *coverage) drop(forgotten func(what string) bool) {
	c.until, c.idle = c.since(), time.Time{}
	maps.DeleteFunc(c.held, func(what string, _ time.Time) bool { return forgotten(what) })
}

// inherit takes over what another one knew of the same source.
func (c *coverage) inherit(since time.Time) { c.until = earlier(c.until, since) }

// since returns the time before which nothing is owed.
func (c *coverage) since() time.Time {
	since := c.until
	for _, held := range c.held {
		since = earlier(since, held)
	}
	return since
}

// age returns how old the oldest undeleted commit is at the most. waits says
// that some part can not work.
func (c *coverage) age(now time.Time, waits bool) time.Duration {
	if !waits && len(c.held) == 0 && !c.idle.IsZero() && now.Sub(c.idle) <= idleFor {
		return 0
	}
	return max(0, now.Sub(c.since()))
}

// succeed has h start with what the health before it of the same source knew to
// be undeleted.
func (h *health) succeed(before *health) {
	before.mu.Lock()
	since := before.covered.since()
	before.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.covered.inherit(since)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
