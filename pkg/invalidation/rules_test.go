package invalidation

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func columns(pairs ...any) Columns {
	var c Columns
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case nil:
			c = append(c, Column{Name: name, State: Null})
		case State:
			c = append(c, Column{Name: name, State: v})
		case string:
			c = append(c, Column{Name: name, Value: []byte(v)})
		}
	}
	return c
}

func TestRulesMapBothImagesToKeys(t *testing.T) {
	t.Parallel()
	all := Rule{Table: "shop.users", Keys: []string{"user:{id}", "user:email:{email}"}}
	named := Rule{Table: "shop.users", Keys: []string{"user:{id}"}, Columns: []string{"name"}}
	for _, c := range []struct {
		name string
		rule Rule
		row  Row
		want []string
		err  error
	}{
		{"insert", all, Row{Op: Insert, After: columns("id", "1", "email", "a@x")}, []string{"user:1", "user:email:a@x"}, nil},
		{"delete", all, Row{Op: Delete, Before: columns("id", "1", "email", "a@x")}, []string{"user:1", "user:email:a@x"}, nil},
		{"update of no key column", all, Row{Op: Update, Before: columns("id", "1", "email", "a@x"), After: columns("id", "1", "email", "a@x")}, []string{"user:1", "user:email:a@x"}, nil},
		{"update of a key column", all, Row{Op: Update, Before: columns("id", "1", "email", "a@x"), After: columns("id", "1", "email", "b@x")}, []string{"user:1", "user:email:a@x", "user:email:b@x"}, nil},
		{"null names no key", all, Row{Op: Update, Before: columns("id", "1", "email", nil), After: columns("id", "1", "email", "b@x")}, []string{"user:1", "user:email:b@x"}, nil},
		{"names compare without case", all, Row{Op: Insert, After: columns("ID", "1", "Email", "a@x")}, []string{"user:1", "user:email:a@x"}, nil},
		{"minimal image, key column unchanged", named, Row{Op: Update, Before: columns("id", "1", "name", Absent), After: columns("id", Absent, "name", "n")}, []string{"user:1"}, nil},
		{"minimal image lacks a key column", all, Row{Op: Update, Before: columns("id", "1", "email", Absent), After: columns("id", Absent, "email", Absent)}, nil, ErrIncomplete},
		{"table lacks the column", all, Row{Op: Insert, After: columns("id", "1")}, nil, ErrIncomplete},
		{"columns: touched", named, Row{Op: Update, Before: columns("id", "1", "name", "a"), After: columns("id", "1", "name", "b")}, []string{"user:1"}, nil},
		{"columns: not touched", named, Row{Op: Update, Before: columns("id", "1", "name", "a"), After: columns("id", "1", "name", "a")}, nil, nil},
		{"columns: null to empty is a change", named, Row{Op: Update, Before: columns("id", "1", "name", nil), After: columns("id", "1", "name", "")}, []string{"user:1"}, nil},
		{"columns: a key column counts", named, Row{Op: Update, Before: columns("id", "1", "name", "a"), After: columns("id", "2", "name", "a")}, []string{"user:1", "user:2"}, nil},
		{"columns: a column that is gone", named, Row{Op: Update, Before: columns("id", "1"), After: columns("id", "1")}, nil, ErrIncomplete},
		{"unreadable names no key", all, Row{Op: Insert, After: Columns{{Name: "id", Value: []byte("1")}, {Name: "email", Value: []byte{0xff}, State: Unreadable}}}, nil, ErrIncomplete},
		{"unreadable still compares", named, Row{Op: Update, Before: Columns{{Name: "id", Value: []byte("1")}, {Name: "name", Value: []byte{0xfe}, State: Unreadable}}, After: Columns{{Name: "id", Value: []byte("1")}, {Name: "name", Value: []byte{0xff}, State: Unreadable}}}, []string{"user:1"}, nil},
		{"columns do not restrict inserts", named, Row{Op: Insert, After: columns("id", "1", "name", nil)}, []string{"user:1"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rules, err := NewRules([]Rule{c.rule})
			require.NoError(t, err)
			c.row.Schema, c.row.Table = "shop", "users"
			got, err := rules.Keys(nil, c.row)
			require.ErrorIs(t, err, c.err)
			assert.ElementsMatch(t, c.want, got)
		})
	}
}

func TestRulesWatchTheTablesThatTheyMatch(t *testing.T) {
	t.Parallel()
	rules, err := NewRules([]Rule{
		{Table: "shop_*.users_*", Keys: []string{"u:{id}"}},
		{Table: "shop.a*c", Keys: []string{"[x]*{{{id}}}:?"}},
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"u:*"}, rules.Patterns(nil, "shop_1", "users_77"))
	assert.Empty(t, rules.Patterns(nil, "shop_1", "orders"))
	assert.Equal(t, []string{`\[x\]\*{*}:\?`}, rules.Patterns(nil, "shop", "abc"))
	assert.Empty(t, rules.Patterns(nil, "shop", "ab"))
	assert.Len(t, rules.Patterns(nil, "*", "*"), 2)
	assert.Equal(t, []string{"u:*"}, rules.Patterns(nil, "shop_9", "*"))
	keys, err := rules.Keys(nil, Row{Schema: "shop", Table: "abc", Op: Insert, After: columns("id", "7")})
	require.NoError(t, err)
	assert.Equal(t, []string{"[x]*{7}:?"}, keys)
}

func TestBadRulesAreNamedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := NewRules([]Rule{
		{Table: "users", Keys: []string{"user:{id}"}},
		{Table: "shop.users"},
		{Table: "shop.users", Keys: []string{"{id}", "", "user:{id", "user:}", "user:{}"}},
		{Table: "`shop`.`users`", Keys: []string{"user:{id}"}},
	})
	require.EqualError(t, err, `rules[0].table: "users" is not of the form schema.table
rules[1].keys: is empty: name at least one key, such as "user:{id}"
rules[2].keys[0]: "{id}" has no literal text, so purging it would match every key: put a prefix in front, such as "user:"
rules[2].keys[1]: "" is empty: write a key such as "user:{id}"
rules[2].keys[2]: "user:{id" placeholder at offset 5 is not closed: add "}", or write "{{" for a brace
rules[2].keys[3]: "user:}" "}" at offset 5 closes nothing: write "}}" for a brace
rules[2].keys[4]: "user:{}" placeholder "{}" at offset 5 is not a column name: write one such as "{id}"
rules[3].table: `+"`shop`.`users`"+` is in quotes: write the names as they are`)
	_, err = NewRules(nil)
	require.Error(t, err)
}

func TestFingerprintsFollowTheContentOfARule(t *testing.T) {
	t.Parallel()
	fingerprint := func(r Rule) string {
		rules, err := NewRules([]Rule{r})
		require.NoError(t, err)
		return rules.Fingerprints()[0].ID
	}
	base := Rule{Table: "a.b", Keys: []string{"k:{id}"}}
	assert.Equal(t, fingerprint(base), fingerprint(Rule{Table: "a.b", Keys: []string{"k:{id}"}}))
	assert.NotEqual(t, fingerprint(base), fingerprint(Rule{Table: "a.c", Keys: base.Keys}))
	assert.NotEqual(t, fingerprint(base), fingerprint(Rule{Table: "a.b", Keys: []string{"k:{id}", "l"}}))
	assert.NotEqual(t, fingerprint(base), fingerprint(Rule{Table: "a.b", Keys: base.Keys, Columns: []string{"x"}}))
}

func TestUnknownColumnsAreNamedWithTheTable(t *testing.T) {
	t.Parallel()
	rules, err := NewRules([]Rule{{Table: "shop.users", Keys: []string{"user:{nick}"}, Columns: []string{"mail"}}})
	require.NoError(t, err)
	err = rules.CheckColumns(func(schema, table string) (map[string][]string, error) {
		assert.Equal(t, "shop.users", schema+"."+table)
		return map[string][]string{"shop.users": {"id", "name", "email"}}, nil
	})
	require.EqualError(t, err, `rules[0].keys[0]: unknown column "nick" (shop.users has id, name, email)
rules[0].columns[0]: unknown column "mail" (shop.users has id, name, email)`)
}

// Every key of a template matches the template's pattern; matched literally, as
// Redis's glob would.
func TestEveryKeyMatchesItsPattern(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		literal := rapid.StringMatching(`[a-z:*?\[\]\\^-]{1,8}`).Draw(t, "literal")
		value := rapid.String().Draw(t, "value")
		parsed, err := parseTemplate(literal + "{c}")
		if err != nil {
			t.Fatal(err)
		}
		key, ok, err := parsed.expand(columns("c", value), nil)
		if err != nil || !ok || key != literal+value {
			t.Fatalf("%q, %v, %v", key, ok, err)
		}
		if !glob(parsed.pattern(), key) {
			t.Fatalf("%q does not match %q", key, parsed.pattern())
		}
	})
}

// glob is Redis's stringmatch for * and escapes.
func glob(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return glob(pattern[1:], s) || s != "" && glob(pattern, s[1:])
	case pattern[0] == '\\' && len(pattern) > 1:
		return s != "" && s[0] == pattern[1] && glob(pattern[2:], s[1:])
	default:
		return s != "" && s[0] == pattern[0] && glob(pattern[1:], s[1:])
	}
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"user:{id}", "{{{id}}}", "}", "{", "a{b", "x}}y{{"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseTemplate(text)
		if err == nil && strings.Trim(parsed.pattern(), "*?") == "" {
			t.Fatalf("%q gives the pattern %q", text, parsed.pattern())
		}
	})
}
