package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// ErrBadRow is wrapped by Keys's error where the row is not what it should be.
var ErrBadRow = errors.New("the row is not a JSON object of column to value, or of before and after to such objects")

// Keys returns the keys that a change of the given row deletes, without
// duplicates. table is schema.table. row is a JSON object of column to value,
// which stands for an insert, or {"before": {…}, "after": {…}} with one or both
// of them.
func Keys(cfg Config, table string, row []byte) ([]string, error) {
	change, err := parseRow(row)
	if err != nil {
		return nil, err
	}
	change.Schema, change.Table, _ = strings.Cut(table, ".")
	var keys, known []string
	watched := false
	for _, src := range cfg.Sources {
		if src.MySQL == nil {
			continue
		}
		rules, err := invalidation.NewRules(src.MappingRules())
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", src.Name, err)
		}
		for _, r := range src.Rules {
			known = append(known, r.Table)
		}
		patterns := rules.Patterns(nil, change.Schema, change.Table)
		watched = watched || len(patterns) > 0
		if keys, err = rules.Keys(keys, change); err != nil {
			return nil, fmt.Errorf("source %s: %w: add the column to the row; the daemon would purge %s", src.Name, err, strings.Join(patterns, " "))
		}
	}
	if !watched {
		return nil, fmt.Errorf("no rule matches the table %q: the rules are for %s", table, listOr(known, "no table"))
	}
	return distinct(keys), nil
}

func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

// distinct keeps the first of each key.
func distinct(keys []string) []string {
	var kept []string
	for _, key := range keys {
		if !slices.Contains(kept, key) {
			kept = append(kept, key)
		}
	}
	return kept
}

// parseRow reads a row change from JSON.
func parseRow(text []byte) (invalidation.Row, error) {
	object, err := parseObject(text)
	if err != nil {
		return invalidation.Row{}, err
	}
	if !isChange(object) {
		after, err := columns(object)
		return invalidation.Row{Op: invalidation.Insert, After: after}, err
	}
	row := invalidation.Row{Op: invalidation.Update}
	for side, into := range map[string]*invalidation.Columns{"before": &row.Before, "after": &row.After} {
		if object[side] == nil {
			continue
		}
		image, err := parseObject(object[side])
		if err != nil {
			return row, fmt.Errorf("%s: %w", side, err)
		}
		if *into, err = columns(image); err != nil {
			return row, fmt.Errorf("%s: %w", side, err)
		}
	}
	switch {
	case row.Before == nil:
		row.Op = invalidation.Insert
	case row.After == nil:
		row.Op = invalidation.Delete
	}
	return row, nil
}

// isChange tells {"before": {…}, "after": {…}} from a row that happens to have
// columns of these names.
func isChange(object map[string]json.RawMessage) bool {
	for field, value := range object {
		if field != "before" && field != "after" || !bytes.HasPrefix(value, []byte("{")) {
			return false
		}
	}
	return len(object) > 0
}

func parseObject(text []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	var object map[string]json.RawMessage
	if err := decoder.Decode(&object); err != nil || object == nil {
		return nil, ErrBadRow
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the object", ErrBadRow)
	}
	return object, nil
}

// columns gives each value the text form that it has in a row image.
func columns(object map[string]json.RawMessage) (invalidation.Columns, error) {
	image := make(invalidation.Columns, 0, len(object))
	for name, value := range object {
		col := invalidation.Column{Name: name, Value: value}
		switch text := string(value); {
		case text == "null":
			col.Value, col.State = nil, invalidation.Null
		case text == "true":
			col.Value = []byte("1") // as MySQL stores a BOOL
		case text == "false":
			col.Value = []byte("0")
		case text[0] == '"':
			var s string
			if err := json.Unmarshal(value, &s); err != nil {
				return nil, fmt.Errorf("column %q: %w", name, ErrBadRow)
			}
			col.Value = []byte(s)
		}
		image = append(image, col)
	}
	return image, nil
}
