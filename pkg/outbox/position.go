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
	home

	LSN      lsn       `json:"lsn"` // behind the WAL of every transaction that it knows of
	Snapshot snapshot  `json:"snapshot"`
	Target   *snapshot `json:"target,omitempty"`
	After    *cursor   `json:"after,omitempty"`
}

// home is where a position means something.
type home struct {
	System   string `json:"system"`           // pg_control_system().system_identifier
	Outbox   string `json:"outbox,omitempty"` // oids of the database and its table; "" in positions of the first version
	Timeline string `json:"timeline"`         // 8 hexadecimal digits
}

func (h home) sameOutbox(o home) bool {
	return h.Outbox == o.Outbox || h.Outbox == "" || o.Outbox == ""
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

// and returns the position behind what both of two positions on the same log
// cover. It knows of no transaction that one of them does not know of, so the
// smaller LSN lies behind the WAL of all of them.
//
// A cursor counts where its position needs it: what its snapshot sees is deleted
// anyway.
func (p position) and(o position) position {
	both := position{home: p.home, LSN: min(p.LSN, o.LSN), Snapshot: p.Snapshot.and(o.Snapshot)}
	both.Outbox = cmp.Or(p.Outbox, o.Outbox)
	target := p.end().and(o.end())
	for _, one := range []position{p, o} {
		if !target.within(one.Snapshot) && (both.After == nil || one.After.compare(*both.After) < 0) {
			both.Target, both.After = &target, one.After
		}
	}
	return both
}

// end returns what the position is on its way to.
func (p position) end() snapshot {
	if p.Target != nil {
		return *p.Target
	}
	return p.Snapshot
}

// within reports whether the other position covers all that this one does.
func (p position) within(o position) bool {
	both := p.and(o)
	both.LSN, both.home = p.LSN, p.home
	return both.String() == p.String()
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
