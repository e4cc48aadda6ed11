package invalidation

import "errors"

// KeyMapper says which keys a row change makes stale. Implementations are pure
// and safe for concurrent use. Rules is the one that configuration builds.
type KeyMapper interface {
	// Keys appends the keys of row to dst: those of the row as it was and
	// of the row as it is. Where the image lacks a column that it needs it
	// returns dst unchanged and an error that wraps ErrIncomplete; the
	// Source then deletes by Patterns.
	Keys(dst []string, row Row) ([]string, error)
	// Patterns appends the globs that cover every key any row of the table
	// can map to; none means that the table is not watched. The table "*"
	// stands for every table of the schema, the schema "*" for every schema.
	Patterns(dst []string, schema, table string) []string
	// Fingerprints identifies each rule by its content, with its patterns.
	// A rule that the position does not name yet is purged first.
	Fingerprints() []Fingerprint
}

// Fingerprint identifies the content of one rule.
type Fingerprint struct {
	ID       string
	Patterns []string
}

// ErrIncomplete is wrapped by KeyMapper.Keys when a row image lacks a column
// that a key is made of.
var ErrIncomplete = errors.New("the row image lacks a column")
