package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Keys may be made of columns that the application never writes.
func TestGeneratedAndInvisibleColumnsNameKeys(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t, "--sql-generate-invisible-primary-key=ON"))
	l.exec(t, `CREATE TABLE docs (doc JSON, hidden INT INVISIBLE DEFAULT 7, stored_id INT AS (doc->'$.id') STORED, virtual_id INT AS (doc->'$.id') VIRTUAL)`)
	l.config.Mapper = mysqlRules(t, l.schema+".docs", "s:{stored_id}", "v:{virtual_id}", "p:{my_row_id}", "h:{hidden}")
	assert.Empty(t, l.check(t).bad(t))
	l.run(t)
	l.exec(t, `INSERT INTO docs (doc) VALUES ('{"id": 5}')`)
	l.sink.await(t, "the keys of the row", func() bool { return l.sink.has("s:5", "v:5", "p:1", "h:7") })
	l.exec(t, `UPDATE docs SET doc = '{"id": 6}'`)
	l.sink.await(t, "the keys of the row as it is", func() bool { return l.sink.has("s:6", "v:6") })
	assert.Zero(t, l.seen.count(invalidation.Incomplete))
}
