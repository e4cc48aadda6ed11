package daemon

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAShortSecretIsHiddenWithoutGarblingWordsThatContainIt(t *testing.T) {
	t.Parallel()
	r := newRedactor("repl", "hunter2-hunter2", "a+b/c", "")
	for text, want := range map[string]string{
		"emptied or replaced":   "emptied or replaced",
		"login of repl:repl@db": "login of ***:***@db",
		"xhunter2-hunter2x":     "x***x",
		"a+b/c and a%2Bb%2Fc":   "*** and ***",
		"nothing":               "nothing",
	} {
		assert.Equal(t, want, r.text(text))
	}
	assert.Equal(t, "repl", newRedactor().text("repl"))
}
