package binlog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// columnChecker is what a mapper offers whose columns can be compared with the
// live schema.
type columnChecker interface {
	CheckColumns(has func(schema, table string) (map[string][]string, error)) error
}

// liveTable is a table that a rule's pattern matches.
type liveTable struct {
	schema, name string
	view         bool
	columns      []liveColumn
}

type liveColumn struct {
	name, kind, charset string
	primary             bool
}

func (t liveTable) String() string { return t.schema + "." + t.name }

func (t liveTable) names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

// checkSchema compares the rules with the tables that the user may see. What it
// does not see is apart: it may come later.
func (s *Source) checkSchema(srv *server) (columns, unseen []invalidation.Finding, err error) {
	checker, can := s.cfg.Mapper.(columnChecker)
	if !can {
		return nil, nil, nil
	}
	seen := map[string]liveTable{}
	rule := 0
	var broken error
	mistakes := checker.CheckColumns(func(schema, table string) (map[string][]string, error) {
		var found []liveTable
		if found, broken = liveTables(srv, schema, table); broken != nil {
			return nil, broken
		}
		watched, notes := s.watchedOf(srv, fmt.Sprintf("rules[%d].table", rule), schema, table, found)
		unseen = append(unseen, notes...)
		rule++
		columns := map[string][]string{}
		for _, t := range watched {
			seen[t.String()] = t
			columns[t.String()] = t.names()
		}
		return columns, nil
	})
	if broken != nil {
		return nil, nil, fmt.Errorf("read the columns: %w", broken)
	}
	row, err := queryRow(srv.control, "SELECT @@global.binlog_row_image")
	if err != nil {
		return nil, nil, fmt.Errorf("read binlog_row_image: %w", err)
	}
	columns = s.mistaken(srv, mistakes, seen)
	if len(columns) == 0 && len(seen) > 0 {
		columns = append(columns, invalidation.Passed("rules", "every column of the rules is in "+joinNames(slices.Sorted(maps.Keys(seen)))))
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		columns = append(columns, s.checkKeyColumns(seen[name], row[0])...)
	}
	return columns, unseen, nil
}

// watchedOf leaves out what a rule only seems to match, and says so.
func (s *Source) watchedOf(srv *server, subject, schema, table string, found []liveTable) (watched []liveTable, notes []invalidation.Finding) {
	for _, t := range found {
		switch {
		case len(s.cfg.Mapper.Patterns(nil, t.schema, t.name)) == 0: // the server compares without case, the rules do not
		case t.view:
			notes = append(notes, invalidation.Fail.Of(subject, t.String()+" is a view: changes are logged for the tables below it", "name these tables"))
		default:
			watched = append(watched, t)
		}
	}
	if len(watched)+len(notes) == 0 {
		notes = append(notes, s.unseen(srv, subject, schema, table))
	}
	return watched, notes
}

// unseen is the Finding for a rule that no table matches which the user sees.
func (s *Source) unseen(srv *server, subject, schema, table string) invalidation.Finding {
	pattern, level := schema+"."+table, invalidation.Fail
	if strings.Contains(pattern, "*") {
		level = invalidation.Warn
	}
	text := fmt.Sprintf("no table matches %s, or user %s may not see it, so its columns are not checked", pattern, s.cfg.User)
	fix := fmt.Sprintf("correct the rule, create the table, or GRANT SELECT ON %s TO %s", grantable(schema, table), s.account(srv.control))
	if others := inAnyCase(srv, schema, table); len(others) > 0 {
		text += "; there is " + joinNames(others) + ": names are compared with their case"
		fix = "spell the rule's table like that"
	}
	return level.Of(subject, text, fix)
}

// grantable quotes a rule's table for a GRANT, which takes a pattern for a
// database only.
func grantable(schema, table string) string {
	if strings.Contains(schema+table, "*") {
		return "`" + strings.NewReplacer(`_`, `\_`, `%`, `\%`, `*`, `%`).Replace(schema) + "`.*"
	}
	return "`" + schema + "`.`" + table + "`"
}

// inAnyCase returns the tables whose names differ from a rule's in their case
// only. It is a hint: an error stands for none.
func inAnyCase(srv *server, schema, table string) []string {
	rows, err := queryRows(srv.control, fmt.Sprintf(
		"SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE LOWER(TABLE_SCHEMA) LIKE LOWER(%s) AND LOWER(TABLE_NAME) LIKE LOWER(%s) ORDER BY 1",
		likeLiteral(schema), likeLiteral(table)))
	if err != nil {
		return nil
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row[0]
	}
	return names
}

// mistaken makes Findings of the lines of CheckColumns' error. A column that
// the user may not see is as unknown as one that is not there.
func (s *Source) mistaken(srv *server, err error, seen map[string]liveTable) []invalidation.Finding {
	if err == nil {
		return nil
	}
	lines := []error{err}
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		lines = joined.Unwrap()
	}
	account := s.account(srv.control)
	found := make([]invalidation.Finding, len(lines))
	for i, line := range lines {
		subject, text, cut := strings.Cut(line.Error(), ": ")
		if !cut {
			subject, text = "rules", line.Error()
		}
		found[i] = invalidation.Fail.Of(subject, text, "correct the rule, or add the column to the table")
		for name, t := range seen {
			if strings.Contains(text, "("+name+" has ") {
				found[i].Fix += fmt.Sprintf("; or, if user %s may see some columns only, GRANT SELECT ON %s TO %s", s.cfg.User, grantable(t.schema, t.name), account)
			}
		}
	}
	return found
}

// checkKeyColumns looks for columns whose text form in a key may differ from the
// one that applications use.
func (s *Source) checkKeyColumns(t liveTable, image string) []invalidation.Finding {
	var found []invalidation.Finding
	for i, c := range t.columns {
		text, fix := trouble(c)
		if image == "NOBLOB" && c.leftOut() {
			text = "a " + c.kind + ", which binlog_row_image = NOBLOB leaves out of updates that do not change it: they purge by pattern"
			fix = "SET PERSIST binlog_row_image = FULL"
		}
		if text != "" && s.inKey(t, i) {
			found = append(found, invalidation.Warn.Of(t.String()+"."+c.name, "a key is made of "+text, fix))
		}
	}
	return found
}

// inKey finds out by trying: where a column is part of a key, a row in which it
// can not be read has no such key.
func (s *Source) inKey(t liveTable, column int) bool {
	row := invalidation.Row{Schema: t.schema, Table: t.name, Op: invalidation.Insert}
	for i, c := range t.columns {
		state := invalidation.Present
		if i == column {
			state = invalidation.Unreadable
		}
		row.After = append(row.After, invalidation.Column{Name: c.name, Value: []byte("1"), State: state})
	}
	_, err := s.cfg.Mapper.Keys(nil, row)
	return errors.Is(err, invalidation.ErrIncomplete)
}

// leftOut reports whether NOBLOB keeps the column out of the log.
func (c liveColumn) leftOut() bool {
	return !c.primary && (strings.HasSuffix(c.kind, "text") || strings.HasSuffix(c.kind, "blob"))
}

// trouble says what is wrong with a column in a key; "" where nothing is.
func trouble(c liveColumn) (text, fix string) {
	switch c.kind {
	case "float", "double":
		return "a " + c.kind + ", which programs print in different ways, so that the key may be another one than the application's", "use a DECIMAL or integer column"
	case "json":
		return "a JSON document, whose text form depends on who prints it", "use a generated column of the part that names the entry"
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection", "vector":
		return "a " + c.kind + ", which has no text form that applications share", "use another column"
	case "tinyblob", "blob", "mediumblob", "longblob", "binary", "varbinary":
		return "a " + c.kind + ": its bytes are used as they are, not in hexadecimal or as a UUID", "have the application do the same, or use a generated column with the text form"
	case "timestamp":
		return "a timestamp, which is printed in UTC here and in its session's time zone by the application", "use a datetime or integer column, or UTC in the application"
	case "bit":
		return "a bit field, which is printed as a number", "have the application do the same, or use an integer column"
	}
	switch c.charset {
	case "", "utf8mb4", "utf8mb3", "utf8", "ascii", "binary", "latin1", "ucs2", "utf16", "utf16le", "utf32":
		return "", ""
	}
	return "text in " + c.charset + ", which is not converted: rows with anything but ASCII in it purge by pattern", "ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4"
}

// liveTables returns the tables that the two patterns match, as far as the user
// may see them.
func liveTables(srv *server, schema, table string) ([]liveTable, error) {
	rows, err := queryRows(srv.control, fmt.Sprintf(
		"SELECT c.TABLE_SCHEMA, c.TABLE_NAME, t.TABLE_TYPE, c.COLUMN_NAME, c.DATA_TYPE, c.CHARACTER_SET_NAME, c.COLUMN_KEY"+
			" FROM information_schema.COLUMNS c JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME"+
			" WHERE c.TABLE_SCHEMA LIKE %s AND c.TABLE_NAME LIKE %s ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION",
		likeLiteral(schema), likeLiteral(table)))
	if err != nil {
		return nil, err
	}
	var tables []liveTable
	for _, row := range rows {
		if n := len(tables); n == 0 || tables[n-1].schema != row[0] || tables[n-1].name != row[1] {
			tables = append(tables, liveTable{schema: row[0], name: row[1], view: strings.Contains(row[2], "VIEW")})
		}
		t := &tables[len(tables)-1]
		t.columns = append(t.columns, liveColumn{name: row[3], kind: strings.ToLower(row[4]), charset: strings.ToLower(row[5]), primary: row[6] == "PRI"})
	}
	return tables, nil
}

// likeLiteral turns a rule's pattern into a quoted operand of LIKE.
func likeLiteral(pattern string) string {
	return "'" + strings.NewReplacer(`\`, `\\\\`, `'`, `''`, `%`, `\\%`, `_`, `\\_`, `*`, `%`).Replace(pattern) + "'"
}

// cascades lists the foreign keys by which a change of one table changes
// another.
const cascades = "SELECT DISTINCT k.TABLE_SCHEMA, k.TABLE_NAME, r.CONSTRAINT_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME" +
	" FROM information_schema.REFERENTIAL_CONSTRAINTS r JOIN information_schema.KEY_COLUMN_USAGE k" +
	" ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.TABLE_NAME = r.TABLE_NAME" +
	" WHERE k.REFERENCED_TABLE_NAME IS NOT NULL AND (r.UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR r.DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))" +
	" ORDER BY 1, 2, 3"

// checkCascades lists the watched tables that change without a row in the log:
// before MySQL 9.6 InnoDB carries cascades out by itself.
func (s *Source) checkCascades(srv *server, read settings) []invalidation.Finding {
	if read.atLeast(9, 6) && read.get("OFF", "innodb_native_foreign_keys") == "OFF" {
		return []invalidation.Finding{invalidation.Passed("cascades", "rows that a foreign key changes are logged")}
	}
	rows, err := queryRows(srv.control, cascades)
	if err != nil {
		return []invalidation.Finding{s.failed("cascades", err)}
	}
	var found []invalidation.Finding
	for _, row := range rows {
		child, parent := row[0]+"."+row[1], row[3]+"."+row[4]
		if len(s.cfg.Mapper.Patterns(nil, row[0], row[1])) > 0 {
			found = append(found, invalidation.Warn.Of("cascades", fmt.Sprintf("%s changes by the foreign key %s when %s does, and the server does not log these rows: their keys are not deleted", child, row[2], parent),
				fmt.Sprintf("have the application change the rows of %s itself, name their keys in a rule of %s, or run MySQL 9.6 or later with innodb_native_foreign_keys = OFF", child, parent)))
		}
	}
	if len(found) == 0 {
		return []invalidation.Finding{invalidation.Passed("cascades", "no watched table that the user may see changes by a foreign key")}
	}
	return found
}
