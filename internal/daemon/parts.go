package daemon

import (
	"context"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

// reader reads one log: a binlog.Source or an outbox.Source.
type reader interface {
	part
	// Check says what of the server and its settings would not work, and
	// whether what the cache remembers can be used; nil: that is not known.
	Check(ctx context.Context, stored []string) []invalidation.Finding
	// Identity tells which data the log is of, as far as the server says.
	Identity(ctx context.Context) (string, error)
	// Now returns the position of the log's end.
	Now(ctx context.Context) (string, error)
	// Rewind returns a position that is older than what is stored by back.
	Rewind(ctx context.Context, back time.Duration, stored []string) (string, error)
	// CompletePosition returns the position that an operator means by a text,
	// which is not newer than what is stored; nil: any will do.
	CompletePosition(ctx context.Context, text string, stored []string) (string, error)
	// Behind returns what of the log was not read yet.
	Behind(ctx context.Context) (LagStatus, error)
}

type binlogReader struct{ *binlog.Source }

func (r binlogReader) Behind(ctx context.Context) (LagStatus, error) {
	lag, err := r.Lag(ctx)
	return LagStatus{Transactions: lag.Transactions, Bytes: lag.Bytes}, err
}

type outboxReader struct{ *outbox.Source }

func (r outboxReader) Behind(ctx context.Context) (LagStatus, error) {
	lag, err := r.Lag(ctx)
	return LagStatus{Transactions: lag.Transactions, Bytes: lag.Bytes}, err
}

// cache is the Sink of one source: a redissink.Sink.
type cache interface {
	invalidation.Sink
	part
	Stored() []string
	Rewind(ctx context.Context, choose func(stored []string) (string, error)) error
	Purge(ctx context.Context, patterns ...string) error
	Parked(ctx context.Context) ([]redissink.Parked, error)
	Unpark(ctx context.Context, keys ...string) (deleted int, err error)
	Forget(ctx context.Context, keys ...string) (forgotten int, err error)
	Leads() bool
	Release(ctx context.Context) error
	Close() error
}
