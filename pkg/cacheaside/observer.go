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
	Key  string        // may be personal data; empty for the kinds that are about no key
	Err  error         // why, for the kinds that say so; without the key, unless a loader's error names it
	Took time.Duration // for the kinds that say so
	Keys int           // for the kinds that say so
}

// EventKind says what happened.
type EventKind int

// The kinds of events. A Get that returns a value, and every value that GetMany returns, reports exactly one of EventHit,
// EventStale, EventWaited, EventJoined, EventFilled, EventRejected, EventNotFilled and EventStaleIfError, and any number
// of the others before it. A Get that returns ErrNotFound reports EventHitAbsent, EventFilledAbsent, EventLoadFailed, or
// one of the former. A load that nobody waits for any more reports how it ended all the same.
const (
	_ EventKind = iota

	// EventHit is a read answered by the first look at the entry. Took is the read's.
	EventHit
	// EventHitAbsent is a read answered by the first look: the entry says that there is nothing. Took is the read's.
	EventHitAbsent
	// EventStale is a read answered by the first look with a value that is past its soft expiry, or near it with
	// Policy.XFetch, and is refreshed in the background. Took is the read's.
	EventStale
	// EventWaited is a read answered by an entry that another filled meanwhile. Took is the read's.
	EventWaited
	// EventJoined is a read answered by the load of another read in this process. Took is the read's.
	EventJoined
	// EventFilled is a read that loaded and stored its entry. Took is the load's.
	EventFilled
	// EventFilledAbsent is a read whose load found nothing and stored that. Took is the load's.
	EventFilledAbsent
	// EventRejected is a load that was not allowed to store its entry: the key was deleted meanwhile, or the lease was
	// lost. Took is the load's.
	EventRejected
	// EventNotFilled is a read that loaded without storing: Err is ErrMaxWait, or what Redis or the encoding said. Took is
	// the load's.
	EventNotFilled
	// EventStaleIfError is a read answered by an old value because the load failed with Err. Took is the read's.
	EventStaleIfError

	// EventLoadFailed is a load that failed with Err, which may be ErrNotFound. Took is the load's.
	EventLoadFailed
	// EventRefreshed is a load in the background that replaced a value before it expired. Took is the load's.
	EventRefreshed
	// EventBatch is one call of a loader for several keys: Keys says how many. Each key reports its end as well. Took is
	// the load's.
	EventBatch
	// EventForeign is an entry that could not be decoded, or was not a string, and was replaced by a lease. Err says why.
	EventForeign
	// EventRedisError is a Redis operation of a read that failed with Err. Took is the operation's.
	EventRedisError
	// EventOpened is a circuit breaker that opened: Err is ErrRedisOpen or ErrLoaderOpen.
	EventOpened
	// EventClosed is a circuit breaker that closed again: Err says which, as for EventOpened.
	EventClosed

	// EventOwed is a delete that failed with Err and is left to the background retry.
	EventOwed
	// EventOwedDone is an owed delete that was done in the background. Took is the time since it was last owed.
	EventOwedDone
	// EventOwedDropped is an owed delete that was given up: too many, too long, or the client was closed. Err says
	// which. The entry may be stale until its TTL.
	EventOwedDropped

	// Kinds is the number after the last kind.
	Kinds
)

func openOrClosed(open bool) EventKind {
	if open {
		return EventOpened
	}
	return EventClosed
}

var eventNames = [Kinds]string{ //nolint:gochecknoglobals // constant
	EventHit:          "hit",
	EventHitAbsent:    "hit_absent",
	EventStale:        "stale",
	EventWaited:       "waited",
	EventJoined:       "joined",
	EventFilled:       "filled",
	EventFilledAbsent: "filled_absent",
	EventRejected:     "rejected",
	EventNotFilled:    "not_filled",
	EventStaleIfError: "stale_if_error",
	EventLoadFailed:   "load_failed",
	EventRefreshed:    "refreshed",
	EventBatch:        "batch",
	EventForeign:      "foreign",
	EventRedisError:   "redis_error",
	EventOpened:       "opened",
	EventClosed:       "closed",
	EventOwed:         "owed",
	EventOwedDone:     "owed_done",
	EventOwedDropped:  "owed_dropped",
}

// String returns the kind's name in snake case, such as "owed_dropped".
func (k EventKind) String() string {
	if k <= 0 || k >= Kinds {
		return "unknown"
	}
	return eventNames[k]
}
