package redissink

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAKeyCountsForThePatternThatFitsItBest(t *testing.T) {
	t.Parallel()
	rules := Wanted{IsTemplates: true, Patterns: []string{"user:*", "user:email:*", "user:*:avatar", "page/*", "{cart:*}", "img:*", "img:1/*"}}
	globs := Wanted{Patterns: []string{"order:*", "order:item:*"}}
	c := newChecks([]Wanted{rules, globs})
	for key, want := range map[string]struct{ pattern, stray string }{
		"user:7":                {"user:*", ""},
		"user:email:ada@x":      {"user:email:*", ""},
		"user:email:a:b":        {"user:email:*", ":"},
		"user:7:avatar":         {"user:*:avatar", ""},
		"user:7:profile":        {"user:*", ":"},
		"user:{7}":              {"user:*", "{"},
		"users:7":               {"", ""},
		"page/https://x":        {"page/*", "/"},
		"page/12:30":            {"page/*", ""},
		"img:1/2":               {"img:1/*", ""},
		"img:1/2/3":             {"img:*", ""},
		"{cart:7}":              {"{cart:*}", ""},
		"{cart:{7}}":            {"{cart:*}", "{"},
		"order:7:whatever":      {"order:*", ""},
		"order:item:7:whatever": {"order:item:*", ""},
	} {
		pattern, stray := c.fit(key)
		assert.Equal(t, want.pattern, pattern, key)
		assert.Equal(t, want.stray, stray, key)
	}
	both := newChecks([]Wanted{{IsTemplates: true, Patterns: []string{"user:*"}}, {Patterns: []string{"user:*"}}})
	assert.Equal(t, []string{"user:*"}, both.patterns)
	_, stray := both.fit("user:7:profile")
	assert.Empty(t, stray, "one of them means all that begins so")
}
