package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestServersThatCanNotBeReadAreRefusedInOneLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		args       []string
		password   string
	}{
		{"statement format", "binlog_format = STATEMENT", []string{"--binlog-format=STATEMENT"}, ""},
		{"no GTIDs", "gtid_mode = OFF", []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, ""},
		{"no metadata", "binlog_row_metadata = MINIMAL", []string{"--binlog-row-metadata=MINIMAL"}, ""},
		{"no binlog", "no binlog", []string{"--skip-log-bin"}, ""},
		{"wrong password", "check user and password", nil, "s3cr3t-wrong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := servers.MySQL(t)
			if c.args != nil {
				server = servers.NewMySQL(t, c.args...)
			}
			rules, err := invalidation.NewRules([]invalidation.Rule{{Table: "shop.users", Keys: []string{"user:{id}"}}})
			require.NoError(t, err)
			config := binlog.Config{
				Name: "shop", Hosts: []string{server.Addr()}, User: server.User(), Password: server.Password(),
				Mapper: rules, Sink: newSink(t, servers.Redis(t).Addr(), servers.Prefix(t), nil),
			}
			if c.password != "" {
				config.Password = c.password
			}
			source, err := binlog.New(config)
			require.NoError(t, err)
			err = runToItsEnd(t, source)
			require.ErrorIs(t, err, invalidation.ErrFatal)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "s3cr3t-wrong")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestRuleWithAnUnknownColumnIsRefused(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	rules, err := invalidation.NewRules([]invalidation.Rule{{Table: c.schema + ".users", Keys: []string{"user:{nick}"}}})
	require.NoError(t, err)
	c.config.Mapper = rules
	source, err := binlog.New(c.config)
	require.NoError(t, err)
	err = runToItsEnd(t, source)
	require.ErrorIs(t, err, invalidation.ErrFatal)
	assert.ErrorContains(t, err, `rules[0].keys[0]: unknown column "nick" (`+c.schema+`.users has id, name, email)`)
}
