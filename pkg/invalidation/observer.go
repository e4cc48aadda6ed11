package invalidation

import "time"

// Observer hears what a Source and its Sink do. Observe is called by the
// goroutine that does the work, so it must not block; it may be called from
// several goroutines at once.
type Observer interface {
	Observe(e Event)
}

// ObserverFunc lets a function be an Observer.
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }

// NoObserver returns an Observer that hears nothing.
func NoObserver() Observer { return ObserverFunc(func(Event) {}) }

// Kind is the kind of an Event.
type Kind uint8

// The kinds of events. More may be added: ignore what you do not know.
const (
	// Waiting: Part can not do its work because of Err and keeps trying.
	Waiting Kind = iota + 1
	// Working: Part does its work, for the first time or again.
	Working
	// Deleted: Count keys of the group Text, Found of which were there, were
	// deleted in Took.
	Deleted
	// Advanced: the Source has given everything up to Text to the Sink, whose
	// newest change was committed at At and whose oldest in this batch at
	// Oldest (zero: not known, or none). The batch had Count transactions,
	// or rows of an outbox, and Keys keys, after Coalesced duplicates had
	// been dropped. Idle: the log has said that it holds nothing more.
	Advanced
	// Gated: a batch waited for Took until its commits were visible.
	Gated
	// Lost: the position is missing or unusable for the reason in Text;
	// everything that matches the patterns is purged next.
	Lost
	// Replaying: the cache went back in time, or was changed by somebody
	// else, as Err says; the Source begins again at the oldest position.
	Replaying
	// PurgeStarted, PurgeProgress, PurgeDone: a purge of the pattern Text
	// is about to begin on a cache of Count keys; has deleted Count keys
	// after looking at Scanned; has deleted Count keys in all, but for those
	// that Err tells of. A purge that has to begin again says PurgeStarted
	// again. ByHand: no position waits for it.
	PurgeStarted
	PurgeProgress
	PurgeDone
	// Incomplete: a change could not be mapped to exact keys because of
	// Err, so the patterns of its table, named in Text, are deleted.
	Incomplete
	// Parked: Redis refuses for good, because of Err, to delete Keys keys
	// that are remembered and passed; Count are parked now.
	Parked
	// Standby: another daemon, named in Text, leads. This one waits.
	Standby
	// Leading: this daemon leads from now on.
	Leading
	// Pruned: Count rows of the outbox were removed.
	Pruned
	// Noted: something an operator should know and need not act on; Text.
	Noted
)

// The parts that an Event speaks of. A master of a cluster that is left behind
// is a part of its own: PartCache, a space and its address.
const (
	PartCache  = "redis"
	PartSource = "source"
	PartGate   = "gate"
	PartLease  = "lease"
)

// Event is one thing that happened. Its Kind says what the fields mean; keys
// are in none of them.
type Event struct {
	Kind                      Kind
	Part                      string
	Text                      string
	Count, Keys               int
	Coalesced, Found, Scanned int
	Took                      time.Duration
	At, Oldest                time.Time
	Idle, ByHand              bool
	Err                       error
}
