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

func TestAGlobMatchesTheKeyThatIsLikeIt(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"user:*", "a?b", "x[ab]*", "x[^0-9]", `a\*b`, "*:user"} {
		assert.True(t, MatchGlob(pattern, KeyLike(pattern)), "%q %q", pattern, KeyLike(pattern))
	}
	assert.Equal(t, "x", KeyLike("x[]"), "nothing matches")
	rapid.Check(t, func(t *rapid.T) {
		pattern := EscapeGlob(rapid.String().Draw(t, "front")) + "*" + EscapeGlob(rapid.String().Draw(t, "back"))
		if !MatchGlob(pattern, KeyLike(pattern)) {
			t.Fatalf("the key like %q does not match it", pattern)
		}
	})
}
