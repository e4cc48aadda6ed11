package outbox

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestConfigurationMistakesComeAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := NewPostgres(PostgresConfig{Hosts: []string{"localhost", "h:5432", "h:99999"}, Purge: []string{"*"}, OnLost: "weep", Poll: -1, Retention: -1})
	require.EqualError(t, err, `sink: is nil
on_lost_position: "weep" is neither "purge" nor "fail"
purge[0]: "*" does not begin with literal text, so it could match every key: put a prefix in front, such as "user:"
poll: -1ns is negative
retention: -1ns is negative
hosts[0]: "localhost" is not host:port, such as "127.0.0.1:5432"
hosts[2]: "h:99999" is not host:port, such as "127.0.0.1:5432"
user: is empty
database: is empty`)

	_, err = NewSQLite(SQLiteConfig{Sink: newMemorySink()})
	require.EqualError(t, err, `purge: is empty: list globs that cover every key that is enqueued, such as "order:*", or set on_lost_position: fail
db: is nil`)
	_, err = NewSQLite(SQLiteConfig{Sink: newMemorySink(), DB: &sql.DB{}, OnLost: invalidation.FailOnLost})
	require.NoError(t, err)
	_, err = NewSQLite(SQLiteConfig{Sink: newMemorySink(), DB: &sql.DB{}, FromNow: true})
	require.NoError(t, err)
}

func TestTheZeroValueIsTheDefault(t *testing.T) {
	t.Parallel()
	s, err := NewPostgres(PostgresConfig{Hosts: []string{"[::1]:5432"}, User: "relay", Database: "orders", Sink: newMemorySink(), Purge: []string{"order:*"}})
	require.NoError(t, err)
	assert.Equal(t, "orders", s.name)
	assert.Equal(t, 20*time.Millisecond, s.poll)
	assert.Equal(t, time.Hour, s.retention)
}
