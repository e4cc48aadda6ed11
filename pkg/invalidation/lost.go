package invalidation

import (
	"errors"
	"fmt"
)

// OnLost is what a Source does when the position is missing or unusable.
type OnLost string

const (
	// PurgeOnLost notes where the log is now, deletes every key that
	// matches the source's patterns, and goes on from there. An outbox is
	// read from its oldest row on. The default.
	PurgeOnLost OnLost = "purge"
	// FailOnLost stops with an error that wraps ErrLost and ErrFatal.
	FailOnLost OnLost = "fail"
)

// ErrLost is wrapped by what a Source's Run returns under FailOnLost.
var ErrLost = errors.New("the position is lost")

// Check returns an error for a value that is none of the above; "" stands for
// the default.
func (o OnLost) Check() error {
	switch o {
	case "", PurgeOnLost, FailOnLost:
		return nil
	}
	return fmt.Errorf("%q is neither %q nor %q", string(o), PurgeOnLost, FailOnLost)
}
