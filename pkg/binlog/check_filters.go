package binlog

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// filters are the databases that a server logs only, or never.
type filters struct{ only, never []string }

// logs reports whether the rows of a database are logged. Where some are named
// that are, the server does not look at those that are not.
func (f filters) logs(database string) bool {
	if len(f.only) > 0 {
		return slices.Contains(f.only, database)
	}
	return !slices.Contains(f.never, database)
}

func (f filters) String() string {
	if len(f.only) > 0 {
		return "binlog-do-db = " + strings.Join(f.only, ",")
	}
	return "binlog-ignore-db = " + strings.Join(f.never, ",")
}

// checkFilters looks for databases whose changes are not logged. Without the
// right to see that it finds nothing.
func (s *Source) checkFilters(srv *server, read settings) ([]invalidation.Finding, error) {
	rows, err := queryAny(srv.control, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
	if err != nil || len(rows) == 0 || len(rows[0]) < 4 || read.get("OFF", "log_bin") != "ON" {
		return nil, nil //nolint:nilerr // the privilege is missing, which is said elsewhere
	}
	f := filters{only: names(rows[0][2]), never: names(rows[0][3])}
	if len(f.only)+len(f.never) == 0 {
		return []invalidation.Finding{invalidation.Passed("binlog filters", "every database is logged")}, nil
	}
	var found []invalidation.Finding
	if checker, can := s.cfg.Mapper.(columnChecker); can {
		err = checker.CheckColumns(func(schema, table string) (map[string][]string, error) {
			tables, err := liveTables(srv, schema, table)
			if err != nil {
				return nil, fmt.Errorf("read the tables: %w", err)
			}
			if hidden := f.hidden(schema); f.hides(schema, tables) && !slices.Contains(found, hidden) {
				found = append(found, hidden)
			}
			return nil, nil
		})
	}
	if err != nil || len(found) > 0 {
		return found, err
	}
	return []invalidation.Finding{invalidation.Warn.Of("binlog filters", "the server logs not every database ("+f.String()+"): "+
		"what it leaves out deletes nothing, and nor does a TRUNCATE or DROP in a session whose own database it leaves out",
		"start the server without --binlog-do-db and --binlog-ignore-db")}, nil
}

// hides reports whether nothing that a rule watches is logged: the database
// that it names, or all that match its pattern and are known.
func (f filters) hides(pattern string, tables []liveTable) bool {
	if !strings.Contains(pattern, "*") {
		return !f.logs(pattern)
	}
	if len(f.only) > 0 {
		matches := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString
		return !slices.ContainsFunc(f.only, matches)
	}
	return len(tables) > 0 && !slices.ContainsFunc(tables, func(t liveTable) bool { return f.logs(t.schema) })
}

// hidden is the Finding for a rule that nothing in the log is for.
func (f filters) hidden(pattern string) invalidation.Finding {
	database, name := "database "+pattern, "="+pattern
	if strings.Contains(pattern, "*") {
		database, name = "every database like "+pattern, " for it"
	}
	fix := "start the server without --binlog-ignore-db" + name
	if len(f.only) > 0 {
		fix = "start the server with --binlog-do-db" + name + " too, or without any --binlog-do-db"
	}
	return invalidation.Fail.Of("binlog filters", fmt.Sprintf("the server leaves %s out of its log (%s), and a rule watches it: nothing is deleted for it", database, f), fix)
}

// names splits a list of databases.
func names(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(name string) bool { return name == "" })
}
