package binlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// Rewind returns a position from which everything that was committed in the
// last back is read again, and maybe more: where the file of the log begins
// that was written to then. stored is what each master of the cache remembers;
// the position is never newer than any of them, and none may be "". nil: no
// cache was asked.
// An error says how far the log reaches back where files of it are purged that
// were needed.
// The user needs REPLICATION CLIENT.
func (s *Source) Rewind(ctx context.Context, back time.Duration, stored []string) (position string, err error) {
	if back < 0 {
		return "", fmt.Errorf("rewind by %s: the time to go back is negative", back)
	}
	err = s.ask(ctx, func(srv *server, found logState) error {
		limit, err := found.limit(stored)
		if err != nil {
			return err
		}
		begin, err := s.fileAt(ctx, srv, back, found.purged.IsEmpty())
		if err != nil {
			return err
		}
		limit.done = intersect(begin.previous, limit.done)
		position = limit.encode()
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("rewind by %s: %w", back, err)
	}
	return position, nil
}

// limit returns the newest position that a replay may begin at: behind what all
// stored ones cover, or the log's end where no cache was asked.
func (l logState) limit(stored []string) (*position, error) {
	switch {
	case len(stored) == 0:
		return l.now, nil
	case slices.Contains(stored, ""):
		return nil, errors.New("a master of the cache remembers no position: it is purged when reading begins, and needs no replay")
	}
	at, reason := resume(stored, l.now.done, l.purged)
	if reason != "" {
		return nil, fmt.Errorf("a stored position can not be used (%s), so everything is purged anyway", reason)
	}
	return at, nil
}

// fileBegin is what the head of a binlog file says.
type fileBegin struct {
	at       time.Time
	previous gtidSet // the transactions of all files before it
}

// fileAt returns the newest file that was begun at least back ago, or the first
// of a log that is whole: nothing was committed before it. Ages are those of
// the server's clock.
func (s *Source) fileAt(ctx context.Context, srv *server, back time.Duration, whole bool) (fileBegin, error) {
	files, err := binlogFiles(srv.control)
	if err != nil {
		return fileBegin{}, fmt.Errorf("mysql %s: list the log's files: %w", srv.addr, err)
	}
	clock, err := queryRow(srv.control, "SELECT UNIX_TIMESTAMP()")
	if err != nil {
		return fileBegin{}, fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	seconds, err := strconv.ParseInt(clock[0], 10, 64)
	if err != nil {
		return fileBegin{}, fmt.Errorf("mysql %s: read the clock: %w", srv.addr, err)
	}
	now := time.Unix(seconds, 0)
	var broken error
	begins := make([]fileBegin, len(files))
	young := sort.Search(len(files), func(i int) bool { // the first file that was begun later than that
		if broken == nil {
			begins[i], broken = s.beginOf(ctx, srv, files[i].name)
		}
		return broken != nil || begins[i].at.After(now.Add(-back-time.Second)) // its clock counts in seconds
	})
	switch {
	case broken != nil:
		return fileBegin{}, broken
	case len(files) == 0:
		return fileBegin{}, errors.New("the server has no log")
	case young == 0 && whole && begins[0].previous.IsEmpty():
		return begins[0], nil
	case young == 0:
		return fileBegin{}, fmt.Errorf("the log does not reach back that far: it begins at %s, %s ago: ask for less, or purge; what is replayed is bounded by binlog_expire_logs_seconds",
			begins[0].at.UTC().Format(time.RFC3339), now.Sub(begins[0].at))
	}
	return begins[young-1], nil
}

// logFile is one file of the server's log.
type logFile struct {
	name string
	size int64
}

func binlogFiles(conn *client.Conn) ([]logFile, error) {
	rows, err := queryRows(conn, "SHOW BINARY LOGS")
	if err != nil {
		return nil, err
	}
	files := make([]logFile, len(rows))
	for i, row := range rows {
		files[i].name = row[0]
		if files[i].size, err = strconv.ParseInt(row[1], 10, 64); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// beginOf reads the head of one file, on a connection of its own: a dump takes
// it up.
func (s *Source) beginOf(ctx context.Context, srv *server, file string) (begin fileBegin, err error) {
	stream, err := s.dial(ctx, srv.addr, silence)
	if err != nil {
		return begin, err
	}
	defer stream.Close()
	if err := dumpFile(stream, file, newServerID()); err != nil {
		return begin, fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	checksums := false
	for {
		event, err := nextEvent(stream)
		if err != nil {
			return begin, fmt.Errorf("mysql %s: %s: %w", srv.addr, file, err)
		}
		if len(event) < replication.EventHeaderSize+checksumLen+1 {
			continue
		}
		switch replication.EventType(event[4]) { //nolint:exhaustive // the head of a file has no others
		case replication.FORMAT_DESCRIPTION_EVENT:
			begin.at = eventTime(event)
			checksums = hasChecksums(event)
		case replication.PREVIOUS_GTIDS_EVENT:
			body := event[replication.EventHeaderSize:]
			if checksums {
				body = body[:len(body)-checksumLen]
			}
			begin.previous, err = mysql.DecodeMysqlGTIDSet(body)
			if err != nil {
				return begin, fmt.Errorf("mysql %s: %s: %w", srv.addr, file, err)
			}
			return begin, nil
		}
	}
}
