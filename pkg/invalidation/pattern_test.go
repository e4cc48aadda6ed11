package invalidation

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

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
