package outbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// position is how far the relay of Postgres came: everything that Snapshot
// sees is deleted, and, where Target is set, also what Target sees up to the
// cursor After.
type position struct {
	System   string    `json:"system"`   // pg_control_system().system_identifier
	Timeline string    `json:"timeline"` // 8 hexadecimal digits
	LSN      lsn       `json:"lsn"`      // behind the WAL of every transaction that it knows of
	Snapshot snapshot  `json:"snapshot"`
	Target   *snapshot `json:"target,omitempty"`
	After    *cursor   `json:"after,omitempty"`
}

// cursor is a place in the index on (txid, id).
type cursor struct {
	Txid uint64 `json:"txid,string"`
	ID   int64  `json:"id,string"`
}

func (c cursor) compare(o cursor) int {
	return cmp.Or(cmp.Compare(c.Txid, o.Txid), cmp.Compare(c.ID, o.ID))
}

func parsePosition(text string) (position, error) {
	var p position
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return position{}, fmt.Errorf("the position can not be read: %w", err)
	}
	if p.System == "" || p.Timeline == "" || p.Snapshot.xmin == 0 || (p.Target == nil) != (p.After == nil) {
		return position{}, errors.New("the position is not one of a Postgres outbox")
	}
	return p, nil
}

func (p position) String() string {
	text, _ := json.Marshal(p) // strings and numbers: it does not fail
	return string(text)
}

// done returns the position at the end of its target.
func (p position) done() position {
	p.Snapshot, p.Target, p.After = *p.Target, nil, nil
	return p
}

// older returns the one of two positions on the same log that covers less. Two
// that stop somewhere on the way to different targets are taken back to where
// both began.
func (p position) older(o position) position {
	switch order := p.Snapshot.compare(o.Snapshot); {
	case order < 0:
		return p
	case order > 0:
		return o
	case p.Target == nil:
		return p
	case o.Target == nil:
		return o
	case p.Target.compare(*o.Target) != 0:
		p.LSN, p.Target, p.After = min(p.LSN, o.LSN), nil, nil
		return p
	case p.After.compare(*o.After) <= 0:
		return p
	}
	return o
}

// lsn is a place in the WAL, in bytes. Its text form is that of pg_lsn.
type lsn uint64

func parseLSN(text string) (lsn, error) {
	high, low, ok := strings.Cut(text, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%q is not a WAL position", text)
	}
	return lsn(h<<32 | l), nil
}

func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) } //nolint:gosec // the low half is wanted

// MarshalText and UnmarshalText make the text form the one in a position.
func (l lsn) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (l *lsn) UnmarshalText(text []byte) (err error) {
	*l, err = parseLSN(string(text))
	return err
}
