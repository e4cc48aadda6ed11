package outbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// snapshot is what pg_current_snapshot() returned: which transactions had
// ended. Its text form is xmin:xmax:xip,xip.
type snapshot struct {
	xmin uint64   // every transaction before this one had ended
	xmax uint64   // no transaction from this one on had
	xip  []uint64 // those in between that had not, ascending
}

func parseSnapshot(text string) (snapshot, error) {
	bad := fmt.Errorf("%q is not a snapshot", text)
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, bad
	}
	var s snapshot
	var err error
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return snapshot{}, bad
	}
	if s.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil || s.xmax < s.xmin || s.xmin == 0 {
		return snapshot{}, bad
	}
	if parts[2] == "" {
		return s, nil
	}
	last := s.xmin - 1
	for field := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(field, 10, 64)
		if err != nil || xid <= last || xid >= s.xmax {
			return snapshot{}, bad
		}
		s.xip, last = append(s.xip, xid), xid
	}
	return s, nil
}

func (s snapshot) String() string {
	b := strconv.AppendUint(nil, s.xmin, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, s.xmax, 10)
	b = append(b, ':')
	for i, xid := range s.xip {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, xid, 10)
	}
	return string(b)
}

// MarshalText and UnmarshalText make the text form the one in a position.
func (s snapshot) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s *snapshot) UnmarshalText(text []byte) (err error) {
	*s, err = parseSnapshot(string(text))
	return err
}

// sees reports whether the transaction had ended.
func (s snapshot) sees(xid uint64) bool {
	if xid < s.xmin {
		return true
	}
	if xid >= s.xmax {
		return false
	}
	_, running := slices.BinarySearch(s.xip, xid)
	return !running
}

// and returns what both see. Of two moments of one server that is the earlier
// one; but where Rewind begins is no moment of it.
func (s snapshot) and(o snapshot) snapshot {
	both := snapshot{xmin: min(s.xmin, o.xmin), xmax: min(s.xmax, o.xmax)}
	for _, xid := range slices.Concat(s.xip, o.xip) {
		if xid < both.xmax {
			both.xip = append(both.xip, xid)
		}
	}
	slices.Sort(both.xip)
	both.xip = slices.Compact(both.xip)
	return both
}

// within reports whether the other snapshot sees all that this one does.
func (s snapshot) within(o snapshot) bool {
	return s.xmax <= o.xmax && !slices.ContainsFunc(o.xip, s.sees)
}

// late returns the transactions that ran in s and had ended in next, from the
// given one on. They and those from s.xmax on are what next may see and s does
// not.
func (s snapshot) late(next snapshot, from uint64) []uint64 {
	late := []uint64{}
	for _, xid := range s.xip {
		if xid >= from && next.sees(xid) {
			late = append(late, xid)
		}
	}
	return late
}

func (s snapshot) same(o snapshot) bool {
	return s.xmin == o.xmin && s.xmax == o.xmax && slices.Equal(s.xip, o.xip)
}
