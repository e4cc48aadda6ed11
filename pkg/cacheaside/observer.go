package cacheaside

import "time"

// Observer is told what a [Client] does, to count and to log it. Observe is called from many goroutines, on the path of
// the read or write that it tells about, so it must return quickly. It must ignore kinds that it does not know: later
// versions add some.
type Observer interface {
	Observe(e Event)
}

// ObserverFunc makes a function an [Observer].
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }

// Event is one thing that happened. Later versions may add fields.
type Event struct {
	Kind EventKind
	Key  string        // may be personal data
	Err  error         // why, for the kinds that say so; without the key, unless a loader's error names it
	Took time.Duration // for the kinds that say so
}

// EventKind says what happened.
type EventKind int

// The kinds of events. A Get that returns a value reports exactly one of EventHit, EventWaited, EventFilled,
// EventRejected, EventNotFilled, and any number of the others before it.
const (
	_ EventKind = iota

	// EventHit is a read answered by the first look at the entry. Took is the read's.
	EventHit
	// EventWaited is a read answered by an entry that another filled meanwhile. Took is the read's.
	EventWaited
	// EventFilled is a read that loaded and stored its entry. Took is the load's.
	EventFilled
	// EventRejected is a read that loaded and was not allowed to store its entry: the key was deleted meanwhile, or the
	// load outlived the lease. Took is the load's.
	EventRejected
	// EventNotFilled is a read that loaded without storing: Err is ErrMaxWait, or what Redis or the encoding said. Took is
	// the load's.
	EventNotFilled

	// EventLoadFailed is a load that failed with Err, which may be ErrNotFound. Took is the load's.
	EventLoadFailed
	// EventForeign is an entry that could not be decoded, or was not a string, and was replaced by a lease. Err says why.
	EventForeign
	// EventRedisError is a Redis operation of a read that failed with Err. Took is the operation's.
	EventRedisError

	// EventOwed is a delete that failed with Err and is left to the background retry.
	EventOwed
	// EventOwedDone is an owed delete that was done in the background. Took is the time since it was last owed.
	EventOwedDone
	// EventOwedDropped is an owed delete that was given up: too many, too long, or the client was closed. Err says
	// which. The entry may be stale until its TTL.
	EventOwedDropped
)

// String returns the kind's name in snake case, such as "owed_dropped".
func (k EventKind) String() string {
	switch k {
	case EventHit:
		return "hit"
	case EventWaited:
		return "waited"
	case EventFilled:
		return "filled"
	case EventRejected:
		return "rejected"
	case EventNotFilled:
		return "not_filled"
	case EventLoadFailed:
		return "load_failed"
	case EventForeign:
		return "foreign"
	case EventRedisError:
		return "redis_error"
	case EventOwed:
		return "owed"
	case EventOwedDone:
		return "owed_done"
	case EventOwedDropped:
		return "owed_dropped"
	}
	return "unknown"
}
