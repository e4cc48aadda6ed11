package outbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// longTransaction is how long a transaction may run before it is worth a
	// word: no row behind it is pruned or vacuumed.
	longTransaction = 10 * time.Minute
	// largeOutbox is a size that a working relay does not let it reach with
	// an hour of thousands of rows a second.
	largeOutbox = 4 << 30
)

// What the migrations create, with the columns in alphabetical order.
const (
	eventsColumns = "created_at timestamp with time zone, id bigint, keys text[], txid xid8"
	stateColumns  = "one boolean, pruned_below xid8"
)

// serverFacts are what a server says of itself.
type serverFacts struct {
	version                                        int
	recovery                                       bool
	pid                                            uint32
	fsync, fullPages, synchronousCommit, vacuuming string
	outbox, enqueue, usage, seesAll                bool
	account                                        string
}

func (s *session) serverFacts(ctx context.Context) (f serverFacts, err error) {
	err = s.conn.QueryRow(ctx, checkServerSQL).Scan(&f.version, &f.recovery, &f.pid, &f.fsync, &f.fullPages,
		&f.synchronousCommit, &f.vacuuming, &f.outbox, &f.enqueue, &f.usage, &f.seesAll, &f.account)
	if err != nil {
		return f, fmt.Errorf("look at the server: %w", err)
	}
	return f, nil
}

// judge looks at the server. pid is the process that answered the login: a
// pooler makes one up.
func (f serverFacts) judge(pid uint32) []invalidation.Finding {
	const risk = "after a crash transaction ids may be given out again that the cache knows as read, and their keys are not deleted"
	found := []invalidation.Finding{
		invalidation.Fail.Unless(f.version >= oldestVersion, "version", fmt.Sprintf("Postgres %d", f.version/10000), "the outbox needs 13 or later", "upgrade the server"),
		invalidation.Fail.Unless(!f.recovery, "primary", map[bool]string{false: "the server is a primary", true: "the server is a standby"}[f.recovery],
			"its snapshots do not tell what is still running", "name the primary in hosts"),
		invalidation.Warn.Unless(pid == f.pid, "pooler", map[bool]string{true: "nothing is between", false: "a pooler answers for the server"}[pid == f.pid],
			"one that gives each statement another connection is refused, and any of them can hide a failover", "name Postgres itself in hosts"),
		invalidation.Warn.Unless(f.fsync == "on", "fsync", "fsync = "+f.fsync, risk, "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()"),
		invalidation.Warn.Unless(f.fullPages == "on", "full_page_writes", "full_page_writes = "+f.fullPages, "a crash may damage the outbox, and every other table",
			"ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()"),
		invalidation.Passed("synchronous_commit", "synchronous_commit = "+f.synchronousCommit+": a position waits for the disk in any case"),
		invalidation.Warn.Unless(f.vacuuming == "on", "autovacuum", "autovacuum = "+f.vacuuming, "pruned rows keep their room, and reading slows down", "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()"),
	}
	return append(found, invalidation.Fail.Unless(f.outbox, "cache_outbox", map[bool]string{true: "the outbox is there", false: "the database has no outbox"}[f.outbox],
		"nothing can be enqueued", "invalidator migrate up"))
}

// outboxFacts are what the database says of the outbox.
type outboxFacts struct {
	readEvents, deleteEvents, readState, updateState bool
	events, state                                    []string // columns, as name and type
	indexed                                          bool
	rowTriggers, triggers                            []string // those that fire before a row is inserted, and others
	definer                                          *bool
	persistence                                      string
	rowSecurity, noVacuum                            bool
	bytes, dead                                      int64
	prepared, running                                *float64
}

func (s *session) outboxFacts(ctx context.Context) (f outboxFacts, err error) {
	err = s.conn.QueryRow(ctx, checkOutboxSQL).Scan(&f.readEvents, &f.deleteEvents, &f.readState, &f.updateState,
		&f.events, &f.state, &f.indexed, &f.rowTriggers, &f.triggers, &f.definer, &f.persistence, &f.rowSecurity, &f.noVacuum,
		&f.bytes, &f.dead, &f.prepared, &f.running)
	if err != nil {
		return f, fmt.Errorf("look at the outbox: %w", err)
	}
	return f, nil
}

func (f outboxFacts) mayRead() bool { return f.readEvents && f.readState }

func (f outboxFacts) judge(server serverFacts) []invalidation.Finding {
	return append(append(f.judgeRights(server.account), f.judgeSchema(server)...), f.judgeWear(server)...)
}

func (f outboxFacts) judgeRights(account string) []invalidation.Finding {
	return []invalidation.Finding{
		right(f.readEvents, "SELECT", "cache_outbox.events", account, "no row can be read"),
		right(f.deleteEvents, "DELETE", "cache_outbox.events", account, "no row can be pruned"),
		right(f.readState, "SELECT", "cache_outbox.state", account, "what was pruned can not be told"),
		right(f.updateState, "UPDATE", "cache_outbox.state", account, "no row can be pruned"),
	}
}

func right(has bool, privilege, object, account, without string) invalidation.Finding {
	if has {
		return invalidation.Passed(privilege+" ON "+object, "user "+account+" has it")
	}
	return invalidation.Fail.Of(privilege+" ON "+object, "user "+account+" lacks it: "+without, "GRANT "+privilege+" ON "+object+" TO "+account)
}

// judgeSchema compares the outbox with what the migrations make.
func (f outboxFacts) judgeSchema(server serverFacts) []invalidation.Finding {
	mend := f.mendSchema()
	found := []invalidation.Finding{
		invalidation.Fail.Unless(mend == "", "schema", fmt.Sprintf("cache_outbox.events (%s), cache_outbox.state (%s)", strings.Join(f.events, ", "), strings.Join(f.state, ", ")),
			"this is not the outbox that this version reads: it needs events ("+eventsColumns+") with an index on (txid, id), and state ("+stateColumns+")",
			mend+"; or, of a newer version, upgrade the daemon"),
		invalidation.Warn.Unless(server.enqueue && f.definer != nil && *f.definer, "enqueue", "cache_outbox.enqueue(text[])", "it is missing, or runs with its caller's rights, so that writers may be refused",
			"invalidator migrate down, then invalidator migrate up"),
		invalidation.Fail.Unless(f.persistence == "p", "logged", map[bool]string{true: "cache_outbox.events is a logged table", false: "cache_outbox.events is unlogged"}[f.persistence == "p"],
			"a crash empties it", "ALTER TABLE cache_outbox.events SET LOGGED"),
		invalidation.Fail.Unless(!f.rowSecurity, "row security", map[bool]string{false: "every row is shown", true: "row security is on for cache_outbox.events"}[f.rowSecurity],
			"rows that a policy hides are never read", "ALTER TABLE cache_outbox.events DISABLE ROW LEVEL SECURITY"),
	}
	const foreign = "cache_outbox.events has triggers that the migrations do not create"
	switch {
	case f.rowTriggers != nil:
		found = append(found, invalidation.Fail.Of("triggers", foreign+", and a BEFORE INSERT trigger can change a row or take it away: "+strings.Join(f.rowTriggers, ", "), dropTriggers(f.rowTriggers)))
	case f.triggers != nil:
		found = append(found, invalidation.Warn.Of("triggers", foreign+": "+strings.Join(f.triggers, ", "), dropTriggers(f.triggers)+", unless you know that they keep every row as it is"))
	}
	return found
}

func dropTriggers(names []string) string {
	return "DROP TRIGGER " + strings.Join(names, " ON cache_outbox.events; DROP TRIGGER ") + " ON cache_outbox.events"
}

// mendSchema returns what makes the tables those that the migrations create; ""
// where they are.
func (f outboxFacts) mendSchema() string {
	moreEvents, lessEvents := differ(f.events, eventsColumns)
	moreState, lessState := differ(f.state, stateColumns)
	if lessEvents || lessState {
		return "invalidator migrate down, then invalidator migrate up"
	}
	var statements []string
	for _, column := range moreEvents {
		statements = append(statements, "ALTER TABLE cache_outbox.events DROP COLUMN "+column)
	}
	for _, column := range moreState {
		statements = append(statements, "ALTER TABLE cache_outbox.state DROP COLUMN "+column)
	}
	if !f.indexed {
		statements = append(statements, "ALTER TABLE cache_outbox.events ADD PRIMARY KEY (txid, id)")
	}
	return strings.Join(statements, "; ")
}

// differ returns the names of the columns that are too many, and whether one
// lacks or is of another type.
func differ(columns []string, want string) (more []string, less bool) {
	wanted := strings.Split(want, ", ")
	for _, column := range wanted {
		less = less || !slices.Contains(columns, column)
	}
	for _, column := range columns {
		if !slices.Contains(wanted, column) {
			end := strings.Index(column, " ")
			if quoted := strings.LastIndex(column, `" `); quoted >= 0 {
				end = quoted + 1
			}
			more = append(more, column[:end])
		}
	}
	return more, less
}

// judgeWear looks at the room that the outbox takes, and at what keeps it.
func (f outboxFacts) judgeWear(server serverFacts) []invalidation.Finding {
	size := fmt.Sprintf("the outbox takes %.1f MiB, with about %d rows that a vacuum will remove", float64(f.bytes)/(1<<20), f.dead)
	found := []invalidation.Finding{
		invalidation.Warn.Unless(f.bytes < largeOutbox, "size", size, "is nothing pruned, or does an old transaction keep what was?", "see the findings on retention and transactions; then VACUUM cache_outbox.events"),
		invalidation.Warn.Unless(!f.noVacuum, "autovacuum of the outbox", map[bool]string{false: "it is vacuumed", true: "autovacuum_enabled = false"}[f.noVacuum],
			"pruned rows keep their room, and reading slows down", "ALTER TABLE cache_outbox.events RESET (autovacuum_enabled)"),
	}
	const why = "no row behind it is pruned, and nothing that was pruned since is vacuumed"
	age := func(seconds *float64) time.Duration {
		if seconds == nil {
			return 0
		}
		return time.Duration(*seconds * float64(time.Second)).Round(time.Second)
	}
	if prepared := age(f.prepared); prepared > longTransaction {
		found = append(found, invalidation.Warn.Of("prepared transactions", fmt.Sprintf("the oldest is %s old: %s", prepared, why), "COMMIT PREPARED or ROLLBACK PREPARED what pg_prepared_xacts shows"))
	}
	running := age(f.running)
	is := fmt.Sprintf("the oldest transaction has run for %s", running)
	if !server.seesAll {
		is += ", of those that " + server.account + " may see (GRANT pg_read_all_stats TO " + server.account + " shows all)"
	}
	return append(found, invalidation.Warn.Unless(running <= longTransaction, "transactions", is, why,
		"SELECT pid, usename, application_name, state, xact_start FROM pg_stat_activity ORDER BY xact_start, and end it: SELECT pg_terminate_backend(pid)"))
}
