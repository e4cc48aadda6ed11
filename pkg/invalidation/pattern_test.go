package invalidation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAPatternBeginsWithLiteralText(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"user:*", "u*", "user:42", `\*x`, `\[*`, "user:?", "user:[ab]*", "user:[^]x", "u[a-]]", `u[\]]`, `u\[`, "u]", `u\`} {
		require.NoError(t, CheckPattern(good), good)
	}
	for bad, says := range map[string]string{
		"":          "is empty",
		"*":         "does not begin with literal text",
		"?*":        "does not begin with literal text",
		"*user:*":   "does not begin with literal text",
		"[^_]*":     "does not begin with literal text",
		"[a]*":      "does not begin with literal text",
		"[":         "does not begin with literal text",
		"?[^~]*":    "does not begin with literal text",
		"?ser:*":    "does not begin with literal text",
		"user:[":    "has a class at offset 5 that is not closed",
		"user:[^":   "has a class at offset 5 that is not closed",
		"user:[a*":  "has a class at offset 5 that is not closed",
		"user:[a-]": "has a class at offset 5 that is not closed",
		`user:[\]`:  "has a class at offset 5 that is not closed",
		"u[a]:[b":   "has a class at offset 5 that is not closed",
	} {
		require.ErrorContains(t, CheckPattern(bad), says, bad)
	}
}

func TestABroadPatternStandsForThoseThatItCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, a, b string }{
		{"more text", "user:*", "user:email:*"},
		{"escaped", `a\[*`, `a\[b*`},
	} {
		assert.Equal(t, []string{c.a}, Broadest([]string{c.b, c.a, c.b}), c.name)
	}
	for _, both := range [][]string{
		{"user:*", "users:*"}, {"a:*", "b:*"}, {`a\*`, `a\*b`}, {"a?*", "a?b*"}, {"a*b*", "a*bc*"}, {"user:email", "user:email:*"}, {"*:x", "*:xy"},
	} {
		assert.Len(t, Broadest([]string{both[0], both[1]}), 2, both)
	}
}
