package invalidation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestGlobsMatchAsRedisMatchesThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"user:*", "user:", true},
		{"user:*", "user", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-b-b-", false},
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"?", "a", true},
		{"?", "", false},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{"[a-c]x", "bx", true},
		{"[c-a]x", "bx", true},
		{"[^a-c]x", "bx", false},
		{"[^a-c]x", "dx", true},
		{`[\]]`, "]", true},
		{"[ab", "a", true},
		{"x[", "x", false},
		{`a\`, `a\`, true},
	} {
		assert.Equal(t, c.want, MatchGlob(c.pattern, c.key), "%q %q", c.pattern, c.key)
	}
	rapid.Check(t, func(t *rapid.T) {
		front, back := rapid.String().Draw(t, "front"), rapid.String().Draw(t, "back")
		if !MatchGlob(EscapeGlob(front)+"*", front+back) {
			t.Fatalf("%q does not match what begins with it", front)
		}
	})
}
