package outbox

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a cache remembers outlives the program that wrote it.
const (
	writtenByTheFirstVersion       = `{"system":"7710900185511964693","timeline":"00000001","lsn":"0/2C7A508","snapshot":"780:785:781,783"}`
	writtenInABacklog              = `{"system":"7710900185511964693","timeline":"0000001A","lsn":"1F/2C7A508","snapshot":"780:785:781,783","target":"790:790:","after":{"txid":"786","id":"4711"}}`
	writtenByTheFirstVersionSQLite = `{"db":"2f6c7c6b2d8e4f0b9a3c5d7e9f1a2b3c","id":"42","token":"0123456789abcdef"}`
)

func TestPositionsOfTheFirstVersionStayReadable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{writtenByTheFirstVersion, writtenInABacklog} {
		p, err := parsePosition(text)
		require.NoError(t, err)
		assertSame(t, text, p.String())
		assert.Equal(t, uint64(780), p.Snapshot.xmin)
	}
	p, err := parseSQLitePosition(writtenByTheFirstVersionSQLite)
	require.NoError(t, err)
	assertSame(t, writtenByTheFirstVersionSQLite, p.String())
}

// assertSame compares byte by byte: an older program that takes over reads
// what is written.
func assertSame(t *testing.T, want, got string) {
	t.Helper()
	same := want == got
	assert.True(t, same, "%s became %s", want, got)
}

func TestPositionsOfOperatorsAreCheckedInOneLine(t *testing.T) {
	t.Parallel()
	postgres, lite := &Source{log: &postgresLog{}}, &Source{log: &sqliteLog{}}
	require.NoError(t, postgres.CheckPosition(writtenInABacklog))
	require.NoError(t, postgres.CheckPosition(" "+writtenByTheFirstVersion+"\n"))
	require.NoError(t, lite.CheckPosition(writtenByTheFirstVersionSQLite))
	require.Error(t, postgres.CheckPosition(writtenByTheFirstVersionSQLite))
	require.Error(t, lite.CheckPosition(writtenByTheFirstVersion))
	for _, bad := range []string{
		"", "now", "0/2C7A508", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "{}", "{", "null", strings.Repeat("x", 500), "a\nb",
		`{"system":"1","timeline":"00000001","lsn":"x","snapshot":"1:1:"}`, `{"system":"1","timeline":"00000001","lsn":"0/1","snapshot":"5:1:"}`,
		`{"system":"1","timeline":"00000001","lsn":"0/1","snapshot":"1:1:","target":"2:2:"}`,
	} {
		for _, source := range []*Source{postgres, lite} {
			err := source.CheckPosition(bad)
			require.Error(t, err, bad)
			assert.NotContains(t, err.Error(), "\n")
			assert.Less(t, len(err.Error()), 300)
		}
	}
}

func FuzzCheckPosition(f *testing.F) {
	f.Add(writtenByTheFirstVersion)
	f.Add(writtenInABacklog)
	f.Add(writtenByTheFirstVersionSQLite)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePosition(text); err == nil {
			again, err := parsePosition(p.String())
			if err != nil || again.String() != p.String() {
				t.Fatalf("%q became %q: %v", text, p, err)
			}
		}
		if p, err := parseSQLitePosition(text); err == nil {
			again, err := parseSQLitePosition(p.String())
			if err != nil || again != p {
				t.Fatalf("%q became %q: %v", text, p, err)
			}
		}
	})
}

func TestSQLiteAnswersWhatAnOperatorAsks(t *testing.T) {
	t.Parallel()
	db := newSQLite(t)
	enqueueSQLite(t, db, "k:1", "k:2")
	_, err := db.ExecContext(t.Context(), "UPDATE cache_outbox_events SET created_at = created_at - 7200000 WHERE id = 1")
	require.NoError(t, err)
	sink := newMemorySink()
	source, err := NewSQLite(SQLiteConfig{DB: db, Sink: sink, Purge: []string{"k:*"}})
	require.NoError(t, err)
	lag, err := source.Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Lag{Transactions: -1, Bytes: -1}, lag)
	id, err := source.Identity(t.Context())
	require.NoError(t, err)
	assert.Len(t, id, 32)
	now, err := source.Now(t.Context())
	require.NoError(t, err)
	same, err := source.CompletePosition(t.Context(), now, nil)
	require.NoError(t, err)
	assert.JSONEq(t, now, same)
	rewound, err := source.Rewind(t.Context(), time.Hour, []string{now})
	require.NoError(t, err)
	p, err := parseSQLitePosition(rewound)
	require.NoError(t, err)
	assert.Equal(t, int64(1), p.ID, "behind the row that is older than that")
	for _, stored := range [][]string{{now}, {rewound, now}} {
		back, err := source.CompletePosition(t.Context(), rewound, stored)
		require.NoError(t, err)
		assert.JSONEq(t, rewound, back)
	}
	_, err = source.CompletePosition(t.Context(), now, []string{now, rewound})
	require.ErrorIs(t, err, errNewer)
	_, err = source.CompletePosition(t.Context(), rewound, []string{now, ""})
	require.ErrorIs(t, err, errNoReplay)
	_, err = source.CompletePosition(t.Context(), rewound, []string{now, writtenByTheFirstVersionSQLite})
	require.ErrorIs(t, err, errUnusable)
	all, err := source.Rewind(t.Context(), 3*time.Hour, []string{now, rewound})
	require.NoError(t, err)
	p, err = parseSQLitePosition(all)
	require.NoError(t, err)
	assert.Zero(t, p.ID)

	sink.stored = rewound
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	sink.await(t, "the newer row is read again", func() bool { return len(sink.keys) == 1 && sink.keys[0] == "k:2" })
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	enqueueSQLite(t, db, "k:3")
	lag, err = source.Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Lag{Transactions: 1, Bytes: 3}, lag)

	_, err = db.ExecContext(t.Context(), "DELETE FROM cache_outbox_events WHERE id = 1; UPDATE cache_outbox_state SET pruned_below = 2")
	require.NoError(t, err)
	_, err = source.Rewind(t.Context(), time.Hour, []string{now})
	require.ErrorContains(t, err, "pruned")
	assert.NotErrorIs(t, err, errUnusable)
}
