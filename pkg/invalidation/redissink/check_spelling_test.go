package redissink

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNearMissesAreSpelledAsTheApplicationDoesWithoutItsData(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ pattern, key, want string }{
		"case":                 {"user:email:*", "User:Email:ada@x", "User:Email:"},
		"separators":           {"user:email:*", "user_email_ada@x", "user_email_"},
		"a hash tag":           {"user:*", "{user:1}", "{user:"},
		"no hash tag":          {"{user:*", "user:1", "user:"},
		"a word in front":      {"user:*", "shop:user:1", "shop:user:"},
		"data in front":        {"user:*", "ada@x:user:1", ""},
		"a number in front":    {"user:*", "42:user:1", ""},
		"another kind":         {"user:*", "order:1", ""},
		"a plural":             {"user:*", "users:1", "users:"},
		"a singular":           {"user:addresses:*", "user:address:1", "user:address:"},
		"another plural":       {"category:*", "shop:Categories:1", "shop:Categories:"},
		"a longer word":        {"user:*", "username:1", ""},
		"a part of a word":     {"pages*", "pagination:1", ""},
		"nothing literal":      {"*:user", "x:user", ""},
		"an escaped character": {`a\*b:*`, "A*B/1", "A*B/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, nearMiss(c.pattern, []string{"unrelated", c.key}))
		})
	}
}
