package cacheaside

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The README shows a part of ExampleClient, which therefore compiles and runs.
func TestTheReadmeShowsTheExample(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, shown, found := strings.Cut(string(readme), "## The library\n\n```go\n")
	require.True(t, found)
	shown, _, _ = strings.Cut(shown, "```")
	unindented := strings.ReplaceAll(string(example), "\n\t", "\n")
	assert.Contains(t, unindented, shown)
	assert.LessOrEqual(t, strings.Count(shown, "\n"), 16)
}
