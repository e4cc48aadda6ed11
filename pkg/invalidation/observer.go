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
	// Deleted: Count keys were deleted, or found absent, in Took.
	Deleted
	// Advanced: the Source has applied everything up to Text, whose newest
	// change was committed at At (zero: not known).
	Advanced
	// Lost: the position is missing or unusable for the reason in Text;
	// everything that matches the patterns is purged next.
	Lost
	// PurgeStarted, PurgeProgress, PurgeDone: a purge of the pattern Text
	// is about to begin on a cache of Count keys, has deleted Count keys,
	// has deleted Count keys in all.
	PurgeStarted
	PurgeProgress
	PurgeDone
	// Incomplete: a change could not be mapped to exact keys because of
	// Err, so the patterns of its table, named in Text, are deleted.
	Incomplete
	// Pruned: Count rows of the outbox were removed.
	Pruned
	// Noted: something an operator should know and need not act on; Text.
	Noted
)

// The parts that an Event speaks of.
const (
	PartCache  = "redis"
	PartSource = "source"
	PartGate   = "gate"
)

// Event is one thing that happened.
type Event struct {
	Kind  Kind
	Part  string
	Text  string
	Count int
	Took  time.Duration
	At    time.Time
	Err   error
}
