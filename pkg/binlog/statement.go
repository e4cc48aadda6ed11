package binlog

import (
	"context"
	"errors"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"
)

// query handles a QUERY event: the borders of transactions, and statements that
// change data without row events. None is skipped unread.
func (r *reader) query(ctx context.Context, e *replication.QueryEvent) error {
	query := withoutComments(string(e.Query))
	words := words(query, 2)
	if len(words) == 0 {
		return nil
	}
	switch words[0].upper {
	case "BEGIN":
		r.tx.open = true
		return nil
	case "COMMIT":
		return r.end(ctx)
	case "ROLLBACK":
		if len(words) > 1 && words[1].upper == "TO" {
			return nil
		}
		return r.end(ctx)
	case "SAVEPOINT", "RELEASE":
		return nil
	case "XA":
		return r.xa(ctx, query)
	}
	r.statement(string(e.Schema), query)
	if r.tx.open {
		return nil
	}
	return r.end(ctx) // DDL commits by itself
}

func (r *reader) xa(ctx context.Context, query string) error {
	switch verb, xid := xaVerb(query); verb {
	case "START", "BEGIN":
		r.tx.open, r.tx.xid = true, xid
	case "COMMIT", "ROLLBACK":
		return r.finish(ctx, verb, xid)
	}
	return nil // XA END, followed by XA_PREPARE
}

// statement adds the patterns of what a statement may have changed.
func (r *reader) statement(schema, query string) {
	all := words(query, 0)
	switch effect(all) {
	case harmless:
		return
	case everything:
		r.purgeAll("a statement that is not a row event: " + all[0].upper)
		return
	}
	wholeSchema := len(all) > 1 && all[0].upper == "DROP" && (all[1].upper == "DATABASE" || all[1].upper == "SCHEMA")
	reason := errors.New("a statement that may change every row: " + all[0].upper)
	for i, w := range all {
		for _, name := range w.names() {
			switch {
			case wholeSchema:
				r.purgeMentioned(name, "*", reason)
			case w.qualified && i > 0:
				for _, q := range all[i-1].names() {
					r.purgeMentioned(q, name, reason)
				}
			default:
				r.purgeMentioned(schema, name, reason)
			}
		}
	}
}

func (r *reader) purgeMentioned(schema, table string, reason error) {
	if schema == "*" || table == "" || schema == "" {
		return
	}
	if len(r.mapper.Patterns(nil, schema, table)) > 0 {
		r.purgeTable(schema, table, reason)
	}
}

type effects int

const (
	harmless   effects = iota // changes no row
	mentioned                 // changes rows of the tables that it mentions
	everything                // may change any row
)

// effect classifies a statement; what it does not know may change any row.
func effect(all []word) effects {
	if len(all) == 0 {
		return harmless
	}
	switch all[0].upper {
	case "TRUNCATE", "RENAME":
		return mentioned
	case "GRANT", "REVOKE", "SET", "FLUSH", "ANALYZE", "CHECK", "OPTIMIZE", "REPAIR", "INSTALL", "UNINSTALL", "USE":
		return harmless
	case "CREATE", "ALTER", "DROP":
		for _, w := range all[1:] {
			switch w.upper {
			case "TABLE", "TABLES", "DATABASE", "SCHEMA", "TABLESPACE", "INDEX":
				return mentioned
			case "USER", "ROLE", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SERVER", "INSTANCE":
				return harmless
			}
		}
		return mentioned
	}
	return everything
}

// word is an identifier or keyword of a statement.
type word struct {
	text, upper string
	qualified   bool // a dot stands before it
}

// names returns the spellings under which a table may be watched: servers with
// lower_case_table_names log what was typed.
func (w word) names() []string {
	if lower := strings.ToLower(w.text); lower != w.text {
		return []string{w.text, lower}
	}
	return []string{w.text}
}

// words splits a statement into identifiers and keywords, the first n of them
// (0: all). String literals are left out, comments are not: MySQL executes
// some of them.
func words(query string, n int) []word {
	var found []word
	dot := false
	for i := 0; i < len(query) && (n == 0 || len(found) < n); {
		switch c := query[i]; {
		case c == '\'':
			_, i = quoted(query, i)
		case c == '`' || c == '"':
			var text string
			text, i = quoted(query, i)
			found = append(found, word{text: text, qualified: dot})
			dot = false
		case isWordByte(c):
			end := i
			for end < len(query) && isWordByte(query[end]) {
				end++
			}
			found = append(found, word{text: query[i:end], upper: strings.ToUpper(query[i:end]), qualified: dot})
			dot, i = false, end
		default:
			if c == '.' {
				dot = true
			} else if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
				dot = false
			}
			i++
		}
	}
	return found
}

// withoutComments takes away the comments that tools put in front of a
// statement; not those that MySQL executes, which begin with /*!.
func withoutComments(query string) string {
	for {
		query = strings.TrimSpace(query)
		comment, end := strings.HasPrefix(query, "/*") && !strings.HasPrefix(query, "/*!"), "*/"
		if strings.HasPrefix(query, "--") || strings.HasPrefix(query, "#") {
			comment, end = true, "\n"
		}
		_, rest, closed := strings.Cut(query, end)
		if !comment || !closed {
			return query
		}
		query = rest
	}
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// quoted returns the text of the literal that begins at i, and where it ends.
func quoted(query string, i int) (string, int) {
	quote := query[i]
	var text strings.Builder
	for i++; i < len(query); i++ {
		switch {
		case query[i] == '\\' && quote != '`' && i+1 < len(query):
			i++
		case query[i] == quote && i+1 < len(query) && query[i+1] == quote:
			i++
		case query[i] == quote:
			return text.String(), i + 1
		}
		text.WriteByte(query[i])
	}
	return text.String(), i
}
