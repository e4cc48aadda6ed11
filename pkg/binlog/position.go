package binlog

import (
	"encoding/json"
	"errors"
	"fmt"

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

var errUnreadable = errors.New("unreadable")

// oldest parses what the shards of a cache remember and returns the oldest; nil
// where a shard remembers nothing.
func oldest(stored []string) (*position, error) {
	var found *position
	for _, text := range stored {
		if text == "" {
			return nil, nil //nolint:nilnil // nothing is remembered
		}
		p, err := parsePosition(text)
		if err != nil {
			return nil, err
		}
		// Positions of one log are prefixes of each other.
		if found == nil || found.done.Contain(p.done) {
			found = p
		}
	}
	return found, nil
}

func parsePosition(text string) (*position, error) {
	var stored positionJSON
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, fmt.Errorf("the stored position is %w: it is not one of a MySQL source", errUnreadable)
	}
	done, err := parseGTIDs(stored.GTIDs)
	if err != nil || stored.Server == "" {
		return nil, fmt.Errorf("the stored position is %w: it names no server or no valid GTID set", errUnreadable)
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
	return parsed, nil
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

func (p *position) add(g gtid) { p.done.AddGTIDWithTag(g.source, g.tag, g.number) }
