package invalidation

import (
	"context"
	"errors"
)

// Batch is what one call to a Sink deletes. The Sink owns it from then on.
type Batch struct {
	Keys     []string // exact keys; duplicates are allowed
	Patterns []string // Redis globs; every key that matches is deleted
	// Position is what the cache may remember once all of the above is
	// deleted. Empty: delete only, remember nothing yet.
	Position string
}

// Sink deletes keys from one cache, which may have several shards.
//
// Apply is idempotent. It waits and retries for as long as the cache can not
// be reached, and returns only when every delete of the batch was answered
// without an error, when ctx is done, or with an error that a retry can not
// heal. A Source calls it at least once a second, with an empty Batch when it
// has nothing to delete: that is how a cache that went back in time is noticed.
type Sink interface {
	// Positions returns what each shard remembers, "" for one that
	// remembers nothing. A Source resumes from the oldest.
	Positions(ctx context.Context) ([]string, error)
	Apply(ctx context.Context, b Batch) error
}

// ErrResume is returned by Sink.Apply when the cache no longer remembers what
// was last written to it: it failed over, was restored or was emptied, or
// another process writes to the same position. The Source returns it from Run
// and has to be run again, which starts from Sink.Positions.
var ErrResume = errors.New("the cache remembers another position than the one last written")

// ErrFatal is wrapped by errors that neither a retry nor a restart of the
// Source heals, such as a wrong password or a wrong setting.
var ErrFatal = errors.New("fatal")

// Fatal marks err as one that only a person can heal. The text stays err's.
func Fatal(err error) error { return fatalError{err} }

type fatalError struct{ error }

func (e fatalError) Unwrap() []error { return []error{e.error, ErrFatal} }
