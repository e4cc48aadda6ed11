package binlog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// checkSettings refuses a server whose log can not be read.
func (s *Source) checkSettings(srv *server) error {
	version, err := queryRow(srv.control, "SELECT VERSION()")
	if err != nil {
		return fmt.Errorf("mysql %s: read the version: %w", srv.addr, err)
	}
	if strings.Contains(version[0], "MariaDB") {
		return s.refuse(srv, "is MariaDB, which this version does not read yet: use the outbox, or wait for it")
	}
	row, err := queryRow(srv.control, "SELECT @@log_bin, @@gtid_mode, @@binlog_format, @@binlog_row_metadata, @@binlog_row_image, @@binlog_row_value_options, @@sync_binlog")
	if err != nil {
		return fmt.Errorf("mysql %s: read the settings: %w", srv.addr, err)
	}
	var errs []error
	if row[0] != "1" {
		errs = append(errs, s.refuse(srv, "writes no binlog: start it with --log-bin"))
	}
	if row[1] != "ON" {
		errs = append(errs, s.refuse(srv, fmt.Sprintf("has gtid_mode = %s: SET PERSIST enforce_gtid_consistency = ON, then step gtid_mode through OFF_PERMISSIVE and ON_PERMISSIVE to ON", row[1])))
	}
	if row[2] != "ROW" {
		errs = append(errs, s.refuse(srv, fmt.Sprintf("has binlog_format = %s, so its log has no rows to read: SET PERSIST binlog_format = ROW, and let the applications reconnect", row[2])))
	}
	if row[3] != "FULL" {
		errs = append(errs, s.refuse(srv, fmt.Sprintf("has binlog_row_metadata = %s, so its log names no columns: SET PERSIST binlog_row_metadata = FULL", row[3])))
	}
	if row[6] != "1" {
		s.note("sync_binlog is " + row[6] + ": after a crash of the machine the server may give GTIDs out again, which nothing can tell; SET PERSIST sync_binlog = 1")
	}
	if row[4] == "MINIMAL" {
		s.note("binlog_row_image is MINIMAL: changes whose image lacks a key column purge by pattern; SET PERSIST binlog_row_image = FULL avoids it")
	}
	return errors.Join(errs...)
}

func (s *Source) note(text string) {
	s.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Noted, Part: invalidation.PartSource, Text: text})
}

func (s *Source) refuse(srv *server, what string) error {
	return invalidation.Fatal(fmt.Errorf("source %q: mysql %s %s", s.cfg.Name, srv.addr, what))
}

// columnChecker is what a mapper offers whose columns can be compared with the
// live schema.
type columnChecker interface {
	CheckColumns(has func(schema, table string) (map[string][]string, error)) error
}

// checkRules compares the rules with the tables that the user may see. A table
// that it may not see, or that does not exist yet, is no mistake.
func (s *Source) checkRules(srv *server) error {
	checker, ok := s.cfg.Mapper.(columnChecker)
	if !ok {
		return nil
	}
	var broken error
	var unseen []string
	err := checker.CheckColumns(func(schema, table string) (map[string][]string, error) {
		tables, err := columns(srv, schema, table)
		if err != nil {
			broken = fmt.Errorf("mysql %s: read the columns: %w", srv.addr, err)
		}
		if err == nil && len(tables) == 0 {
			unseen = append(unseen, schema+"."+table)
		}
		return tables, err
	})
	if len(unseen) > 0 {
		s.note("not checked, because user " + s.cfg.User + " sees no such table (GRANT SELECT on it, or correct the rule): " + strings.Join(unseen, " "))
	}
	if broken != nil {
		return broken
	}
	if err != nil {
		return invalidation.Fatal(fmt.Errorf("source %q: %w", s.cfg.Name, err))
	}
	return nil
}

// columns returns the columns of each table that the two patterns match.
func columns(srv *server, schema, table string) (map[string][]string, error) {
	result, err := srv.control.Execute(fmt.Sprintf(
		"SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA LIKE %s AND TABLE_NAME LIKE %s ORDER BY 1, 2, ORDINAL_POSITION",
		likeLiteral(schema), likeLiteral(table)))
	if err != nil {
		return nil, err
	}
	defer result.Close()
	tables := map[string][]string{}
	for i := range result.RowNumber() {
		var cell [3]string
		for k := range cell {
			if cell[k], err = result.GetString(i, k); err != nil {
				return nil, err
			}
		}
		name := cell[0] + "." + cell[1]
		tables[name] = append(tables[name], cell[2])
	}
	return tables, nil
}

// likeLiteral turns a rule's pattern into a quoted operand of LIKE.
func likeLiteral(pattern string) string {
	return "'" + strings.NewReplacer(`\`, `\\\\`, `'`, `''`, `%`, `\\%`, `_`, `\\_`, `*`, `%`).Replace(pattern) + "'"
}
