package binlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"
)

// position is what the cache remembers: every transaction of done is applied.
type position struct {
	server string // server_uuid, for people to read; GTIDs identify the data
	done   *mysql.MysqlGTIDSet
	rules  []string // fingerprints of the rules that were in force
}

type positionJSON struct {
	Server string   `json:"server"`
	GTIDs  string   `json:"gtids"`
	Rules  []string `json:"rules"`
}

func parsePosition(text string) (*position, error) {
	var stored positionJSON
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, errors.New("the stored position is unreadable: it is not one of a MySQL source")
	}
	done, err := parseGTIDs(stored.GTIDs)
	if err != nil || stored.Server == "" {
		return nil, errors.New("the stored position is unreadable: it names no server or no valid GTID set")
	}
	return &position{server: stored.Server, done: done, rules: stored.Rules}, nil
}

func parseGTIDs(text string) (*mysql.MysqlGTIDSet, error) {
	set, err := mysql.ParseMysqlGTIDSet(text)
	if err != nil {
		return nil, fmt.Errorf("parse GTID set: %w", err)
	}
	parsed, ok := set.(*mysql.MysqlGTIDSet)
	if !ok {
		return nil, fmt.Errorf("parse GTID set: unexpected %T", set)
	}
	for _, tags := range *parsed {
		for _, intervals := range tags {
			if len(intervals) > 0 && intervals[0].Start < 1 { // they are sorted
				return nil, errors.New("parse GTID set: the first transaction has the number 1")
			}
		}
	}
	return parsed, nil
}

// parseGiven parses what an operator gives: a position as the cache remembers
// it, or a bare GTID set, which then has no server.
func parseGiven(text string) (*position, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") && strings.Contains(text, `"`) { // a UUID may be written in braces
		p, err := parsePosition(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no position of a MySQL source: give one as \"invalidator position show\" prints it, or a GTID set", shorten(text))
		}
		return p, nil
	}
	done, err := parseGTIDs(text)
	if err != nil || done.IsEmpty() {
		return nil, fmt.Errorf("%q is neither a GTID set, such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77, nor a position as \"invalidator position show\" prints it", shorten(text))
	}
	return &position{done: done}, nil
}

// shorten keeps a text that may be anything at a length for one line.
func shorten(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}

func (p *position) encode() string {
	text, err := json.Marshal(positionJSON{Server: p.server, GTIDs: p.done.String(), Rules: p.rules})
	if err != nil {
		return "" // three strings always marshal
	}
	return string(text)
}

// gtidSet is a set of transactions.
type gtidSet = *mysql.MysqlGTIDSet

type gtid struct {
	source uuid.UUID
	tag    mysql.Tag
	number int64
}

// and returns the position behind what both cover, with the rules that were in
// force for both.
func (p *position) and(o *position) *position {
	return &position{server: p.server, done: intersect(p.done, o.done), rules: inBoth(p.rules, o.rules)}
}

// inBoth returns the rules that both lists have.
func inBoth(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(id string) bool { return !slices.Contains(b, id) })
}

// intersect returns the transactions that both sets have.
func intersect(a, b gtidSet) gtidSet {
	both := mysql.NewMysqlGTIDSet()
	for source, tags := range *a {
		shared := map[mysql.Tag]mysql.IntervalSlice{}
		for tag, intervals := range tags {
			if found := overlap(intervals, (*b)[source][tag]); len(found) > 0 {
				shared[tag] = found
			}
		}
		if len(shared) > 0 { // an empty entry would count as one that others lack
			both[source] = shared
		}
	}
	return &both
}

// overlap returns what two lists share; they are sorted, and so is it.
func overlap(a, b mysql.IntervalSlice) (shared mysql.IntervalSlice) {
	for len(a) > 0 && len(b) > 0 {
		in := mysql.Interval{Start: max(a[0].Start, b[0].Start), Stop: min(a[0].Stop, b[0].Stop)}
		if in.Start < in.Stop {
			shared = append(shared, in)
		}
		if a[0].Stop < b[0].Stop {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return shared
}

func (p *position) add(g gtid) { p.done.AddGTIDWithTag(g.source, g.tag, g.number) }
