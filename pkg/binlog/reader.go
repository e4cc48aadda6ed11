package binlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// readAhead is how many changes may wait for the applier.
	readAhead = 64
	// chunkKeys is how many keys of one transaction travel together.
	chunkKeys = 4096
)

// change is a transaction, or a part of one: the reader hands over a huge one
// in pieces.
type change struct {
	gtid      gtid
	keys      []string
	patterns  []string
	committed time.Time
	last      bool // the transaction ends here
	end       place
	idle      bool // no transaction: the server has sent all that it has
}

// reader turns the stream's events into changes. One goroutine owns it.
type reader struct {
	mapper   invalidation.KeyMapper
	observer invalidation.Observer
	out      chan<- change
	parser   *replication.BinlogParser
	inner    *replication.BinlogParser // for the events of compressed transactions
	rows     rowDecoder
	tx       transaction
	prepared prepared
	place    place // behind the last event that was read

	checksums bool // events end with a checksum
}

// transaction is what the reader knows of the one that it is in.
type transaction struct {
	change
	known bool   // a GTID event began it
	open  bool   // BEGIN or XA START was seen: it ends with a commit
	xid   string // XA: rows are held until XA COMMIT
}

func newReader(mapper invalidation.KeyMapper, observer invalidation.Observer, out chan<- change) *reader {
	r := &reader{mapper: mapper, observer: observer, out: out, prepared: prepared{keys: map[string][]string{}}}
	r.parser = r.newParser()
	r.parser.SetVerifyChecksum(true)
	return r
}

// newParser returns a parser that decodes the rows of watched tables only.
func (r *reader) newParser() *replication.BinlogParser {
	p := replication.NewBinlogParser()
	p.SetTimestampStringLocation(time.UTC)
	p.SetIgnoreJSONDecodeError(true)
	p.SetRowsEventDecodeFunc(func(e *replication.RowsEvent, data []byte) error {
		pos, err := e.DecodeHeader(data)
		if err != nil || !r.watched(e.Table) {
			return err
		}
		return e.DecodeData(pos, data)
	})
	return p
}

func (r *reader) watched(table *replication.TableMapEvent) bool {
	return len(r.mapper.Patterns(nil, string(table.Schema), string(table.Table))) > 0
}

// run reads until the stream breaks or ctx is done; it always has a reason.
func (r *reader) run(ctx context.Context, server *server) error {
	for accepted := false; ; accepted = true {
		data, err := nextEvent(server.stream)
		if err != nil {
			return err
		}
		if !accepted {
			r.observer.Observe(invalidation.Event{Kind: invalidation.Working, Part: invalidation.PartSource, Text: server.addr})
		}
		if err := r.read(ctx, data); err != nil {
			return err
		}
	}
}

// read acts on one event of the stream.
func (r *reader) read(ctx context.Context, data []byte) error {
	if len(data) < replication.EventHeaderSize {
		return errors.New("decode the binlog: an event without a header")
	}
	r.place.follow(data)
	if !isHeartbeat(data) {
		return r.parse(ctx, r.parser, data)
	}
	if r.tx.known {
		return nil
	}
	return r.hand(ctx, change{idle: true, end: r.place})
}

// parse decodes one event and acts on it.
func (r *reader) parse(ctx context.Context, parser *replication.BinlogParser, data []byte) error {
	if len(data) < replication.EventHeaderSize {
		return errors.New("decode the binlog: an event without a header")
	}
	switch replication.EventType(data[4]) { //nolint:exhaustive // the others need nothing in front
	case replication.FORMAT_DESCRIPTION_EVENT:
		if err := r.describe(data); err != nil {
			return err
		}
	case replication.TRANSACTION_PAYLOAD_EVENT:
		return r.payload(ctx, data)
	}
	event, err := decode(parser, data)
	if err != nil {
		return err
	}
	return r.event(ctx, event)
}

// decode keeps the parser's panics over malformed events, and the row data that
// its errors quote, from going further.
func decode(parser *replication.BinlogParser, data []byte) (event *replication.BinlogEvent, err error) {
	kind := replication.EventType(data[4])
	defer func() {
		if p := recover(); p != nil {
			event, err = nil, fmt.Errorf("decode the binlog: malformed %s", kind)
		}
	}()
	if event, err = parser.Parse(data); err != nil {
		return nil, fmt.Errorf("decode the binlog: malformed %s at %d", kind, binary.LittleEndian.Uint32(data[13:]))
	}
	return event, nil
}

func (r *reader) event(ctx context.Context, event *replication.BinlogEvent) error {
	switch e := event.Event.(type) {
	case *replication.GTIDEvent:
		return r.start(event.Header.EventType, e)
	case *replication.GtidTaggedLogEvent:
		return r.start(event.Header.EventType, &e.GTIDEvent)
	case *replication.QueryEvent:
		return r.query(ctx, e)
	case *replication.RowsEvent:
		return r.change(ctx, event.Header.EventType, e)
	case *replication.XIDEvent:
		return r.end(ctx)
	case *replication.ExecuteLoadQueryEvent:
		r.purgeAll("LOAD DATA was logged as a statement")
	case *replication.GenericEvent:
		return r.generic(ctx, event.Header.EventType, e)
	}
	return nil
}

// start begins a transaction.
func (r *reader) start(kind replication.EventType, e *replication.GTIDEvent) error {
	if kind == replication.ANONYMOUS_GTID_EVENT {
		return errors.New("read the binlog: a transaction without a GTID: set gtid_mode = ON")
	}
	source, err := uuid.FromBytes(e.SID)
	if err != nil {
		return fmt.Errorf("read the binlog: %w", err)
	}
	r.tx = transaction{known: true, change: change{
		gtid:      gtid{source: source, tag: e.Tag, number: e.GNO},
		committed: e.ImmediateCommitTime(),
	}}
	return nil
}

// generic handles the events that the parser leaves undecoded.
func (r *reader) generic(ctx context.Context, kind replication.EventType, e *replication.GenericEvent) error {
	switch kind {
	case replication.XA_PREPARE_LOG_EVENT:
		return r.prepare(ctx, e.Data)
	case replication.INCIDENT_EVENT:
		r.purgeAll("the server logged an incident: events may be missing")
		if !r.tx.open {
			return r.end(ctx)
		}
	}
	return nil
}

// change maps the rows of one event to keys.
func (r *reader) change(ctx context.Context, kind replication.EventType, e *replication.RowsEvent) error {
	if !r.watched(e.Table) {
		return nil
	}
	if len(e.Table.ColumnName) == 0 {
		r.purgeTable(string(e.Table.Schema), string(e.Table.Table), errNoNames)
		return nil
	}
	var mapErr error
	err := r.rows.each(kind, e, func(row invalidation.Row) {
		keys, err := r.mapper.Keys(r.tx.keys, row)
		if err != nil {
			mapErr = err
			return
		}
		r.tx.keys = keys
	})
	if err == nil {
		err = mapErr
	}
	if err != nil {
		// When in doubt, more is deleted: never less.
		r.purgeTable(string(e.Table.Schema), string(e.Table.Table), err)
	}
	if len(r.tx.keys) < chunkKeys {
		return nil
	}
	if r.tx.xid != "" {
		r.prepared.cap(&r.tx)
		return nil
	}
	return r.send(ctx, false)
}

var errNoNames = errors.New("the log names no columns: it was written before binlog_row_metadata = FULL")

func (r *reader) purgeTable(schema, table string, reason error) {
	r.observer.Observe(invalidation.Event{Kind: invalidation.Incomplete, Part: invalidation.PartSource, Text: schema + "." + table, Err: reason})
	r.tx.patterns = invalidation.Broadest(r.mapper.Patterns(r.tx.patterns, schema, table))
}

func (r *reader) purgeAll(reason string) {
	r.purgeTable("*", "*", errors.New(reason))
}

// end completes the transaction.
func (r *reader) end(ctx context.Context) error {
	if !r.tx.known {
		return nil
	}
	return r.send(ctx, true)
}

// send hands over what was collected of the transaction.
func (r *reader) send(ctx context.Context, last bool) error {
	c := r.tx.change
	c.last, c.end = last, r.place
	r.tx.keys, r.tx.patterns = nil, nil
	if last {
		r.tx = transaction{}
	}
	return r.hand(ctx, c)
}

func (r *reader) hand(ctx context.Context, c change) error {
	select {
	case r.out <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
