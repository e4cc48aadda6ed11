package invalidation

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Rule says which keys the rows of a table appear in.
type Rule struct {
	// Table is schema.table; in each of the two parts * matches any text.
	Table string
	// Keys are templates such as "user:{id}". {{ and }} are literal braces.
	// A template whose column is NULL names no key.
	Keys []string
	// Columns restricts updates: those that change none of these columns
	// and no column of a key delete nothing. Empty: every update deletes.
	Columns []string
}

// Rules is the KeyMapper that a list of Rule describes.
type Rules struct {
	rules  []*rule
	tables sync.Map // tableName -> []*rule
}

type tableName struct{ schema, table string }

type rule struct {
	schema, table string
	templates     []template
	columns       []string // what an update has to touch; nil: anything
	fingerprint   Fingerprint
}

// NewRules parses the rules. Its error joins one line for each mistake,
// beginning with the place, such as rules[0].keys[1].
func NewRules(specs []Rule) (*Rules, error) {
	r := &Rules{}
	var errs []error
	for i, spec := range specs {
		parsed, err := parseRule(fmt.Sprintf("rules[%d]", i), spec)
		errs = append(errs, err...)
		r.rules = append(r.rules, parsed)
	}
	if len(specs) == 0 {
		errs = append(errs, errors.New("rules: is empty: name at least one table and its keys"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

func parseRule(path string, spec Rule) (*rule, []error) {
	var errs []error
	schema, table, ok := strings.Cut(spec.Table, ".")
	switch {
	case !ok || schema == "" || table == "" || strings.Contains(table, "."):
		errs = append(errs, fmt.Errorf("%s.table: %q is not of the form schema.table", path, spec.Table))
	case strings.ContainsAny(spec.Table, "`\""):
		errs = append(errs, fmt.Errorf("%s.table: %s is in quotes: write the names as they are", path, spec.Table))
	}
	r := &rule{schema: schema, table: table}
	if len(spec.Keys) == 0 {
		errs = append(errs, fmt.Errorf("%s.keys: is empty: name at least one key, such as \"user:{id}\"", path))
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q", spec.Table, spec.Columns)
	for k, text := range spec.Keys {
		t, err := parseTemplate(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s.keys[%d]: %q %w", path, k, text, err))
			continue
		}
		r.templates = append(r.templates, t)
		r.fingerprint.Patterns = append(r.fingerprint.Patterns, t.pattern())
		fmt.Fprintf(sum, " %q", text)
	}
	if len(spec.Columns) > 0 {
		r.columns = slices.Clone(spec.Columns)
		for _, t := range r.templates {
			r.columns = append(r.columns, t.columns()...)
		}
	}
	r.fingerprint.ID = hex.EncodeToString(sum.Sum(nil)[:6])
	return r, errs
}

// CheckColumns compares the rules with the live schema: has returns the
// columns of each table that a rule's schema and table match. Its error joins
// one line for each column that a table does not have.
func (r *Rules) CheckColumns(has func(schema, table string) (map[string][]string, error)) error {
	var errs []error
	for i, rl := range r.rules {
		tables, err := has(rl.schema, rl.table)
		if err != nil {
			return err
		}
		for name, columns := range tables {
			errs = append(errs, rl.check(fmt.Sprintf("rules[%d]", i), name, columns)...)
		}
	}
	return errors.Join(errs...)
}

func (rl *rule) check(path, table string, columns []string) []error {
	var errs []error
	known := func(name string) bool {
		return slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, name) })
	}
	for k, t := range rl.templates {
		for _, name := range t.columns() {
			if !known(name) {
				errs = append(errs, fmt.Errorf("%s.keys[%d]: unknown column %q (%s has %s)", path, k, name, table, strings.Join(columns, ", ")))
			}
		}
	}
	for k, name := range rl.columns {
		if !known(name) && !slices.ContainsFunc(rl.templates, func(t template) bool { return slices.Contains(t.columns(), name) }) {
			errs = append(errs, fmt.Errorf("%s.columns[%d]: unknown column %q (%s has %s)", path, k, name, table, strings.Join(columns, ", ")))
		}
	}
	return errs
}

// Fingerprints returns one Fingerprint for each rule.
func (r *Rules) Fingerprints() []Fingerprint {
	prints := make([]Fingerprint, len(r.rules))
	for i, rl := range r.rules {
		prints[i] = rl.fingerprint
	}
	return prints
}

// Patterns implements KeyMapper.
func (r *Rules) Patterns(dst []string, schema, table string) []string {
	if schema == "*" || table == "*" {
		for _, rl := range r.rules {
			if schema == "*" || match(rl.schema, schema) {
				dst = append(dst, rl.fingerprint.Patterns...)
			}
		}
		return dst
	}
	for _, rl := range r.of(schema, table) {
		dst = append(dst, rl.fingerprint.Patterns...)
	}
	return dst
}

// of returns the rules of a table, remembered after the first time.
func (r *Rules) of(schema, table string) []*rule {
	name := tableName{schema, table}
	if found, ok := r.tables.Load(name); ok {
		return found.([]*rule) //nolint:errcheck // only this function stores
	}
	var found []*rule
	for _, rl := range r.rules {
		if match(rl.schema, schema) && match(rl.table, table) {
			found = append(found, rl)
		}
	}
	r.tables.Store(name, found)
	return found
}

// Keys implements KeyMapper.
func (r *Rules) Keys(dst []string, row Row) ([]string, error) {
	before := len(dst)
	for _, rl := range r.of(row.Schema, row.Table) {
		var err error
		if dst, err = rl.keys(dst, row); err != nil {
			return dst[:before], err
		}
	}
	return dst, nil
}

func (rl *rule) keys(dst []string, row Row) ([]string, error) {
	if row.Op == Update && rl.columns != nil {
		touched, err := rl.touched(row)
		if err != nil || !touched {
			return dst, err
		}
	}
	for _, t := range rl.templates {
		var err error
		if dst, err = t.keys(dst, row); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// keys appends the key of the row as it was and, where it differs, of the row
// as it is.
func (t template) keys(dst []string, row Row) ([]string, error) {
	first := len(dst)
	if row.Op != Insert {
		key, ok, err := t.expand(row.Before, nil)
		if err != nil {
			return dst, err
		}
		if ok {
			dst = append(dst, key)
		}
	}
	if row.Op == Delete {
		return dst, nil
	}
	key, ok, err := t.expand(row.After, row.Before)
	if err != nil {
		return dst, err
	}
	if ok && (len(dst) == first || dst[first] != key) {
		dst = append(dst, key)
	}
	return dst, nil
}

// touched reports whether an update changed a column that the rule names.
func (rl *rule) touched(row Row) (bool, error) {
	for _, name := range rl.columns {
		after, ok := row.After.Get(name)
		if !ok {
			return false, fmt.Errorf("%w: %s.%s has no column %q", ErrIncomplete, row.Schema, row.Table, name)
		}
		if after.State == Absent {
			continue // a minimal image leaves out what did not change
		}
		before, _ := row.Before.Get(name)
		if before.State != after.State || string(before.Value) != string(after.Value) {
			return true, nil
		}
	}
	return false, nil
}

// expand builds the key of one image; ok is false where a column is NULL. What
// the image after an update leaves out did not change and stands in unchanged.
func (t template) expand(image, unchanged Columns) (key string, ok bool, err error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.column == "" {
			b.WriteString(p.literal)
			continue
		}
		col, found := image.Get(p.column)
		if found && col.State == Absent && unchanged != nil {
			col, found = unchanged.Get(p.column)
		}
		if !found || col.State == Absent {
			return "", false, fmt.Errorf("%w: %q", ErrIncomplete, p.column)
		}
		if col.State == Unreadable {
			return "", false, fmt.Errorf("%w in a character set that can be read: %q", ErrIncomplete, p.column)
		}
		if col.State == Null {
			return "", false, nil
		}
		b.Write(col.Value)
	}
	return b.String(), true, nil
}

// match reports whether name matches pattern, in which * is any text.
func match(pattern, name string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	name = name[len(head):]
	for {
		head, tail, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, head)
		}
		at := strings.Index(name, head)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(head):], tail
	}
}
