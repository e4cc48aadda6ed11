package binlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// maxPrepared bounds the keys that are held for prepared XA transactions.
const maxPrepared = 1_000_000

// prepared holds the keys of XA transactions between XA PREPARE, where their
// rows are logged, and XA COMMIT, where they become visible. What it does not
// know, because it was prepared before this session or was too large, is
// committed with a purge of every rule.
type prepared struct {
	keys map[string][]string
	held int
}

// cap gives up the keys of a transaction that is too large to hold.
func (p *prepared) cap(tx *transaction) {
	if p.held+len(tx.keys) > maxPrepared {
		tx.keys, tx.patterns, tx.xid = nil, nil, tooLarge
	}
}

const tooLarge = "too large to hold"

// prepare handles the event that ends the rows of an XA transaction.
func (r *reader) prepare(ctx context.Context, data []byte) error {
	xid, onePhase, err := parsePrepare(data)
	if err != nil {
		return err
	}
	if onePhase {
		if r.tx.xid == tooLarge {
			r.purgeAll("a large XA transaction")
		}
		return r.end(ctx)
	}
	// Rows that needed patterns are left to the purge at XA COMMIT.
	if r.tx.xid != tooLarge && len(r.tx.patterns) == 0 && r.prepared.held+len(r.tx.keys) <= maxPrepared {
		r.prepared.keys[xid] = r.tx.keys
		r.prepared.held += len(r.tx.keys)
	}
	r.tx.keys, r.tx.patterns = nil, nil
	return r.end(ctx)
}

// finish handles XA COMMIT and XA ROLLBACK; what is what follows XA.
func (r *reader) finish(ctx context.Context, verb, xid string) error {
	keys, known := r.prepared.keys[xid]
	delete(r.prepared.keys, xid)
	r.prepared.held -= len(keys)
	switch {
	case verb == "ROLLBACK":
	case known:
		r.tx.keys = keys
	default:
		r.purgeAll("an XA transaction was prepared before reading began, or was too large to hold")
	}
	return r.end(ctx)
}

var errPrepare = errors.New("read the binlog: malformed XA_PREPARE event")

// parsePrepare reads an XA_PREPARE_LOG_EVENT and returns the transaction's
// identifier as MySQL prints it in XA COMMIT.
func parsePrepare(data []byte) (xid string, onePhase bool, err error) {
	if len(data) < 13 {
		return "", false, errPrepare
	}
	format := int32(binary.LittleEndian.Uint32(data[1:])) //nolint:gosec // a signed field
	gtrid, bqual := binary.LittleEndian.Uint32(data[5:]), binary.LittleEndian.Uint32(data[9:])
	rest := data[13:]
	if uint64(gtrid)+uint64(bqual) > uint64(len(rest)) {
		return "", false, errPrepare
	}
	return fmt.Sprintf("X'%x',X'%x',%d", rest[:gtrid], rest[gtrid:gtrid+bqual], format), data[0] != 0, nil
}

// xaVerb splits "XA COMMIT X'31',X”,1" into its verb and identifier.
func xaVerb(query string) (verb, xid string) {
	words := strings.Fields(query)
	if len(words) < 3 || !strings.EqualFold(words[0], "XA") {
		return "", ""
	}
	return strings.ToUpper(words[1]), words[2]
}
