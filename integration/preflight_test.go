package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

func TestThePreflightChecksAllServersOfTheConfiguration(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	code, out, errs := o.command("check")
	assert.Equal(t, 0, code, out)
	assert.Empty(t, errs)
	assert.Contains(t, out, "ok    redis: connection  ")
	assert.Contains(t, out, "ok    redis: lease  ")
	assert.Contains(t, out, "ok    shop: binlog_format")
	assert.NotContains(t, out, o.server.Password())
	require.NoError(t, o.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, o.end(t))

	broken := newMySQLCache(t, servers.NewMySQL(t, "--binlog-format=STATEMENT"))
	o.file = writeConfig(t, broken.yaml(""))
	code, out, _ = o.command("check", "--json")
	assert.Equal(t, 1, code)
	var found struct {
		OK       bool
		Findings []struct{ Of, Level, Subject, Text, Fix string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &found))
	assert.False(t, found.OK)
	var failed []string
	for _, f := range found.Findings {
		if f.Level == "fail" {
			failed = append(failed, fmt.Sprint(f.Of, ": ", f.Subject, " → ", f.Fix))
		}
	}
	assert.Contains(t, strings.Join(failed, "\n"), "shop: binlog_format → SET PERSIST binlog_format")
}
