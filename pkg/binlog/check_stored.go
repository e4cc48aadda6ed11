package binlog

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// checkStored looks whether the log still holds what the cache has not seen,
// and for how long it will.
func (s *Source) checkStored(ctx context.Context, srv *server, read settings, stored []string) invalidation.Finding {
	executed, purged, err := gtidState(srv.control)
	if err != nil {
		return s.failed("position", err)
	}
	at, reason := resume(stored, executed, purged)
	if reason != "" {
		if s.cfg.OnLost == invalidation.FailOnLost {
			return invalidation.Fail.Of("position", reason, "set on_lost_position: purge, for one start at the least")
		}
		return invalidation.Warn.Of("position", reason+": the next start purges what the rules match", "nothing; or, for a cache that is known to be right, invalidator position set --now")
	}
	waiting, err := missing(srv.control, executed, at.done.String())
	if err != nil {
		return s.failed("position", err)
	}
	if waiting == 0 {
		return invalidation.Passed("position", "everything that the server has executed is applied")
	}
	text := fmt.Sprintf("%d transactions wait", waiting)
	committed, err := s.firstMissing(ctx, srv, at)
	if err != nil {
		return invalidation.Passed("position", text)
	}
	age := time.Since(committed).Round(time.Second)
	kept := read.expires()
	text += fmt.Sprintf(", the oldest was committed %s ago", age)
	if kept == 0 {
		return invalidation.Passed("position", text)
	}
	return invalidation.Warn.Unless(age < kept/2, "position", text, fmt.Sprintf("the log is kept for %s; behind that the position is lost", kept),
		fmt.Sprintf("SET PERSIST binlog_expire_logs_seconds = %d, and see why nothing is applied", int64(max(2*age, 2*kept, goodRetention).Seconds())))
}

// firstMissing returns when the first transaction was committed that a position
// lacks, and io.EOF where there is none.
func (s *Source) firstMissing(ctx context.Context, srv *server, at *position) (time.Time, error) {
	stream, err := s.dial(ctx, srv.addr, silence)
	if err != nil {
		return time.Time{}, err
	}
	defer stream.Close()
	if err := (&server{stream: stream}).dump(at.done, newServerID(), dumpEnds); err != nil {
		return time.Time{}, err
	}
	parser := replication.NewBinlogParser()
	for {
		data, err := nextEvent(stream)
		if err != nil {
			return time.Time{}, err
		}
		if len(data) < replication.EventHeaderSize {
			return time.Time{}, io.ErrUnexpectedEOF
		}
		switch replication.EventType(data[4]) { //nolint:exhaustive // the others do not matter here
		case replication.FORMAT_DESCRIPTION_EVENT, replication.GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT:
		default:
			continue
		}
		event, err := decode(parser, data)
		if err != nil {
			return time.Time{}, err
		}
		switch e := event.Event.(type) {
		case *replication.GTIDEvent:
			return e.ImmediateCommitTime(), nil
		case *replication.GtidTaggedLogEvent:
			return e.ImmediateCommitTime(), nil
		}
	}
}

// checkReader looks at a server that loaders read: a delete waits for it.
func (s *Source) checkReader(ctx context.Context, source *server, subject, addr string) invalidation.Finding {
	conn, err := s.dial(ctx, addr, silence)
	if err != nil {
		return invalidation.Fail.Of(subject, lineError{s.explain(err)}.Error()+": every delete waits until it is back", "start it, correct the address or the login, or take it out of reads_from")
	}
	srv := &server{addr: addr, control: conn}
	defer srv.close()
	read, err := readSettings(conn)
	if err == nil {
		srv.id, err = serverUUID(conn)
	}
	switch {
	case err != nil:
		return s.failed(subject, fmt.Errorf("mysql %s: %w", addr, err))
	case srv.id == source.id:
		return invalidation.Passed(subject, addr+" is the source itself")
	case read.get("OFF", "gtid_mode") != "ON":
		return invalidation.Fail.Of(subject, addr+" has "+read.is("gtid_mode", "OFF")+": what it has applied can not be told", read.turnGTIDsOn()+", there")
	}
	return s.checkReplication(source, srv, subject)
}

// checkReplication looks whether a server gets what the source commits.
func (s *Source) checkReplication(source, srv *server, subject string) invalidation.Finding {
	states, err := replicaStates(srv)
	if isDenied(err) {
		return invalidation.Warn.Of(subject, fmt.Sprintf("user %s may not see whether %s replicates", s.cfg.User, srv.addr), fmt.Sprintf("GRANT REPLICATION CLIENT ON *.* TO %s there", s.account(srv.control)))
	}
	if err != nil {
		return s.failed(subject, fmt.Errorf("mysql %s: %w", srv.addr, err))
	}
	for _, state := range states {
		if state["io"] != "Yes" || state["sql"] != "Yes" {
			return invalidation.Fail.Of(subject, fmt.Sprintf("%s does not replicate (receiver: %s, applier: %s): every delete waits for it", srv.addr, state["io"], state["sql"]),
				"START REPLICA there, see its Last_Error, or take it out of reads_from")
		}
		if delay, err := time.ParseDuration(state["delay"] + "s"); err == nil && delay >= s.cfg.GateTimeout {
			return invalidation.Fail.Of(subject, fmt.Sprintf("%s applies %s late, and a delete waits for %s", srv.addr, delay, s.cfg.GateTimeout), "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 0 there, or take it out of reads_from")
		}
	}
	executed, _, err := gtidState(source.control)
	if err != nil {
		return s.failed(subject, err)
	}
	has, _, err := gtidState(srv.control)
	if err != nil {
		return s.failed(subject, fmt.Errorf("mysql %s: %w", srv.addr, err))
	}
	behind, err := missing(srv.control, executed, has.String())
	switch {
	case err != nil:
		return s.failed(subject, fmt.Errorf("mysql %s: %w", srv.addr, err))
	case len(states) == 0 && behind > 0:
		return invalidation.Fail.Of(subject, fmt.Sprintf("%s is no replica and lacks %d transactions of the source: every delete waits for them", srv.addr, behind), "make it a replica, or take it out of reads_from")
	}
	return invalidation.Passed(subject, fmt.Sprintf("%s replicates, %d transactions behind", srv.addr, behind))
}

// replicaStates returns, for each channel, whether receiver and applier run.
func replicaStates(srv *server) ([]map[string]string, error) {
	result, err := srv.control.Execute("SHOW REPLICA STATUS")
	if err != nil {
		return nil, err
	}
	defer result.Close()
	if result.Resultset == nil {
		return nil, nil
	}
	states := make([]map[string]string, result.RowNumber())
	for i := range states {
		states[i] = map[string]string{}
		for name, column := range map[string]string{"io": "Replica_IO_Running", "sql": "Replica_SQL_Running", "delay": "SQL_Delay"} {
			text, err := result.GetStringByName(i, column)
			if err != nil {
				return nil, err
			}
			states[i][name] = strings.Clone(text) // it lies in a buffer that Close gives away
		}
	}
	return states, nil
}
