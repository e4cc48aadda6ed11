package binlog

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRulesThatALogIsNotFor(t *testing.T) {
	t.Parallel()
	tables := func(schemas ...string) (found []liveTable) {
		for _, schema := range schemas {
			found = append(found, liveTable{schema: schema, name: "users"})
		}
		return found
	}
	for name, c := range map[string]struct {
		only, never, pattern string
		tables               []liveTable
		hidden               bool
	}{
		"another database is logged":              {"other", "", "shop", tables("shop"), true},
		"another, and nobody may see the table":   {"other", "", "shop", nil, true},
		"this one and another":                    {"other,shop", "", "shop", tables("shop"), false},
		"names are compared with their case":      {"Shop", "", "shop", tables("shop"), true},
		"it is left out":                          {"", "tmp,shop", "shop", tables("shop"), true},
		"another is left out":                     {"", "tmp", "shop", tables("shop"), false},
		"what is logged counts":                   {"shop", "shop", "shop", tables("shop"), false},
		"none of a pattern is logged":             {"other", "", "shop_*", tables("shop_1", "shop_2"), true},
		"none of a pattern, and none is there":    {"other", "", "shop_*", nil, true},
		"some of a pattern are":                   {"shop_1", "", "shop_*", tables("shop_1", "shop_2"), false},
		"one of a pattern is, but not there yet":  {"shop_3", "", "shop_*", tables("shop_1"), false},
		"all of a pattern are left out":           {"", "shop_1,shop_2", "shop_*", tables("shop_1", "shop_2"), true},
		"some of a pattern are left out":          {"", "shop_1", "shop_*", tables("shop_1", "shop_2"), false},
		"only one of a pattern, which is not yet": {"", "shop_1", "shop_*", nil, false},
		"a pattern that others are left out of":   {"", "tmp", "shop_*", nil, false},
		"a dot is a dot":                          {"shopx1", "", "shop.*", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := filters{only: names(c.only), never: names(c.never)}
			assert.Equal(t, c.hidden, f.hides(c.pattern, c.tables))
		})
	}
}
