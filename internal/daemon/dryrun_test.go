package daemon

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// image makes a row image from "name=value"; a value of NULL is one, and a
// name without a value is a column that the image leaves out.
func image(columns ...string) invalidation.Columns {
	image := invalidation.Columns{}
	for _, c := range columns {
		name, value, present := strings.Cut(c, "=")
		col := invalidation.Column{Name: name, Value: []byte(value)}
		switch {
		case !present:
			col.State = invalidation.Absent
		case value == "NULL":
			col.State = invalidation.Null
		}
		image = append(image, col)
	}
	return image
}

func TestADryRunPrintsEachRowWithItsKeys(t *testing.T) {
	t.Parallel()
	rules, err := invalidation.NewRules([]invalidation.Rule{
		{Table: "shop.users", Keys: []string{"user:{id}", "user:email:{email}"}, Columns: []string{"email"}},
	})
	require.NoError(t, err)
	cases := map[string]struct {
		row  invalidation.Row
		want string
		err  error
	}{
		"an insert": {
			row:  invalidation.Row{Op: invalidation.Insert, After: image("id=42", "email=a@x", "note=NULL")},
			want: "insert shop.users id=42 email=a@x note=NULL → user:42 user:email:a@x",
		},
		"an update shows what changed": {
			row: invalidation.Row{
				Op:     invalidation.Update,
				Before: image("id=42", "name=Ann", "email=a@x"), After: image("id=42", "name=Ann", "email=b@x"),
			},
			want: "update shop.users id=42 email=a@x→b@x → user:42 user:email:a@x user:email:b@x",
		},
		"an update that touches no key": {
			row:  invalidation.Row{Op: invalidation.Update, Before: image("id=42", "email=a@x", "name="), After: image("id=42", "email=a@x", "name=Ann B")},
			want: `update shop.users id=42 name=""→"Ann B" → nothing`,
		},
		"a delete": {
			row:  invalidation.Row{Op: invalidation.Delete, Before: image("id=42", "email=NULL")},
			want: "delete shop.users id=42 email=NULL → user:42",
		},
		"a minimal image": {
			row:  invalidation.Row{Op: invalidation.Update, Before: image("id=42", "email"), After: image("id", "email=b@x")},
			want: `update shop.users id=42 email=?→b@x → purge user:* user:email:* (the row image lacks a column: "email")`,
			err:  invalidation.ErrIncomplete,
		},
		"long and odd values": {
			row:  invalidation.Row{Op: invalidation.Insert, After: image("id=1\x1b[2J", "email="+strings.Repeat("é", 40))},
			want: `insert shop.users id="1\x1b[2J" email=` + strings.Repeat("é", 32) + `… → "user:1\x1b[2J" user:email:` + strings.Repeat("é", 40),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			c.row.Schema, c.row.Table = "shop", "users"
			mapper := dryRunMapper{Rules: rules, printer: &printer{out: &out}}
			keys, err := mapper.Keys([]string{"earlier"}, c.row)
			require.ErrorIs(t, err, c.err)
			assert.Equal(t, c.want+"\n", out.String())
			assert.Equal(t, "earlier", keys[0])
		})
	}
}

func TestADryRunPrintsTheBatchesOfAnOutbox(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	outbox := dryRunSink{source: "orders", printer: &printer{out: &out}}
	rows := dryRunSink{source: "shop", rows: true, printer: outbox.printer}
	batch := invalidation.Batch{Keys: []string{"order:1", "order:2"}, Position: "7"}
	require.NoError(t, outbox.Apply(t.Context(), batch))
	require.NoError(t, rows.Apply(t.Context(), batch))
	require.NoError(t, rows.Apply(t.Context(), invalidation.Batch{Patterns: []string{"user:*"}}))
	assert.Equal(t, "orders → order:1 order:2\n", out.String())
	positions, err := outbox.Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{""}, positions, "it remembers nothing")
}

func TestKeysOfARow(t *testing.T) {
	t.Parallel()
	cfg, err := load("testdata/good/full.yaml")
	require.NoError(t, err)
	cases := map[string]struct {
		table, row string
		want       []string
		err        string
	}{
		"a row":          {table: "shop.users", row: `{"id": 42, "name": "Ann", "email": "a@x"}`, want: []string{"user:42", "user:email:a@x"}},
		"null and bool":  {table: "shop.users", row: `{"id": true, "name": null, "email": null}`, want: []string{"user:1"}},
		"a large number": {table: "shop.users", row: `{"id": 18446744073709551615, "name": "", "email": null}`, want: []string{"user:18446744073709551615"}},
		"an update": {
			table: "shop.users", want: []string{"user:42", "user:email:a@x", "user:email:b@x"},
			row: `{"before": {"id": 42, "name": "", "email": "a@x"}, "after": {"id": 42, "name": "", "email": "b@x"}}`,
		},
		"a delete":           {table: "shop.users", row: `{"before": {"id": 42, "email": "a@x"}}`, want: []string{"user:42", "user:email:a@x"}},
		"a column is absent": {table: "shop.users", row: `{"id": 42}`, err: `source shop: the row image lacks a column: "email": add the column to the row; the daemon would purge user:* user:email:*`},
		"no rule":            {table: "shop.orders", row: `{"id": 42}`, err: `no rule matches the table "shop.orders": the rules are for shop.users`},
		"not an object":      {table: "shop.users", row: `[42]`, err: ErrBadRow.Error()},
		"not JSON":           {table: "shop.users", row: `{"id": }`, err: ErrBadRow.Error()},
		"two objects":        {table: "shop.users", row: `{} {}`, err: ErrBadRow.Error() + ": something follows the object"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := Keys(cfg, c.table, []byte(c.row))
			if c.err != "" {
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, keys)
		})
	}
	_, err = Keys(cfg, "shop.users", []byte("x"))
	require.ErrorIs(t, err, ErrBadRow)
}
