package outbox

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parseArray reads a literal with pgx's parser, which is not ours.
func parseArray(t *testing.T, literal string) []string {
	t.Helper()
	var keys []string
	require.NoError(t, pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(literal), &keys))
	return keys
}

func FuzzArrayLiteral(f *testing.F) {
	for _, seed := range []string{"a", "NULL", `"`, `\`, `\"`, "{}", "a,b", " ", "ключ", "\n"} {
		f.Add(seed, "b")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		keys := []string{first, second}
		if checkKeys(keys) != nil {
			t.Skip()
		}
		assert.Equal(t, keys, parseArray(t, arrayLiteral(keys)))
	})
}

func TestArrayLiteralQuotesEverything(t *testing.T) {
	t.Parallel()
	assert.Equal(t, `{"a"}`, arrayLiteral([]string{"a"}))
	assert.Equal(t, `{"NULL","a\"b","c\\d","{,}"}`, arrayLiteral([]string{"NULL", `a"b`, `c\d`, "{,}"}))
	var keys []string
	for r := rune(1); r <= 0x2100; r++ {
		if utf8.ValidRune(r) {
			keys = append(keys, string(r), "x"+string(r)+"y")
		}
	}
	assert.Equal(t, keys, parseArray(t, arrayLiteral(keys)))
}

func TestEnqueueRefusesKeysThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"":         "keys[1] is empty",
		"a\xffb":   "keys[1] is not valid UTF-8",
		"a\x00b":   "keys[1] has a zero byte",
		"\xed\xa0": "keys[1] is not valid UTF-8",
	} {
		err := Enqueue(t.Context(), nil, "ok", key)
		require.ErrorContains(t, err, want)
		require.Equal(t, err, EnqueueSQL(t.Context(), nil, "ok", key))
		require.Equal(t, err, EnqueueSQLite(t.Context(), nil, "ok", key))
	}
	require.NoError(t, Enqueue(t.Context(), nil), "no keys, nothing to do")
}

type stateError string

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func TestEnqueueSaysWhatToDoAboutAMissingSchema(t *testing.T) {
	t.Parallel()
	for _, err := range []error{stateError("3F000"), stateError("42883"), stateError("42P01"), errors.New("no such table: cache_outbox_events")} {
		assert.True(t, strings.HasSuffix(enqueued(err).Error(), `run "invalidator migrate up"`))
		require.ErrorIs(t, enqueued(err), err)
	}
	assert.NotContains(t, enqueued(stateError("40001")).Error(), "migrate")
}
