package binlog

import (
	"context"
	"fmt"

	"github.com/go-mysql-org/go-mysql/client"
)

// Lag is how much of the log waits. -1 stands for unknown.
type Lag struct {
	// Transactions is the number of those that the server has executed and
	// that are not applied yet.
	Transactions int64
	// Bytes is what the log's files hold behind the last transaction that
	// was applied. It needs REPLICATION CLIENT, and is unknown without.
	Bytes int64
}

// unknownLag is the Lag of a Source that has not applied anything yet.
func unknownLag() Lag { return Lag{Transactions: -1, Bytes: -1} }

// Lag asks the server, on a connection of its own, how far Run is behind. Both
// numbers are unknown before Run has applied something.
func (s *Source) Lag(ctx context.Context) (Lag, error) {
	if s.applied.Load() == nil {
		return unknownLag(), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv, err := s.call(ctx)
	if err != nil {
		return unknownLag(), s.explain(err)
	}
	defer srv.close()
	lag := unknownLag()
	// What ends between the questions must not count: the log's end first.
	files, filesErr := binlogFiles(srv.control)
	executed, _, err := gtidState(srv.control)
	if err != nil {
		return lag, s.explain(fmt.Errorf("mysql %s: %w", srv.addr, err))
	}
	applied := s.applied.Load()
	if lag.Transactions, err = missing(srv.control, executed, applied.gtids); err != nil {
		return lag, s.explain(fmt.Errorf("mysql %s: %w", srv.addr, err))
	}
	switch {
	case lag.Transactions == 0:
		lag.Bytes = 0 // of an older session the place may be missing
	case filesErr == nil:
		lag.Bytes = bytesBehind(files, applied.place)
	}
	return lag, nil
}

// missing counts the transactions of a set that another one lacks.
func missing(conn *client.Conn, all gtidSet, done string) (int64, error) {
	row, err := queryRow(conn, fmt.Sprintf("SELECT GTID_SUBTRACT('%s', '%s')", all, done))
	if err != nil {
		return -1, fmt.Errorf("compare with gtid_executed: %w", err)
	}
	rest, err := parseGTIDs(row[0])
	if err != nil {
		return -1, err
	}
	count := int64(0)
	for _, tags := range *rest {
		for _, intervals := range tags {
			for _, interval := range intervals {
				count += interval.Stop - interval.Start
			}
		}
	}
	return count, nil
}

// bytesBehind sums up what the files hold behind a place; -1 where its file is
// not among them.
func bytesBehind(files []logFile, from place) int64 {
	bytes, found := int64(0), false
	for _, file := range files {
		if found {
			bytes += file.size
		}
		if file.name == from.file {
			found = true
			bytes = max(0, file.size-int64(from.at)) //nolint:gosec // the size of a file
		}
	}
	if !found {
		return -1
	}
	return bytes
}
