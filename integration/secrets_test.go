package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// planted is a daemon in which every secret, and what is personal in the rows
// and keys, has PLANT in it.
func planted(t *testing.T) *operated {
	t.Helper()
	c, own, pg := newMySQLCache(t, nil), servers.NewRedis(t), servers.Postgres(t)
	user := c.schema[max(0, len(c.schema)-32):]
	c.exec("CREATE USER '" + user + "' IDENTIFIED BY 'PLANT,my\"sql'")
	t.Cleanup(func() { _, _ = c.db.ExecContext(context.WithoutCancel(t.Context()), "DROP USER '"+user+"'") })
	c.exec("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '" + user + "'")
	database, _ := pg.Database(t)
	_, err := pg.Conn(t, database).Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %q SUPERUSER LOGIN PASSWORD 'PLANT}postgres'`, database))
	require.NoError(t, err)
	c.rdb = own.Client(t)
	require.NoError(t, c.rdb.Do(t.Context(), "ACL", "SETUSER", "relay", "on", ">PLANT@redis:1", "~"+c.prefix+"inv*", "~"+c.prefix+"email:*", "%R~"+c.prefix+"*", "+@all").Err())
	config := fmt.Sprintf(`
namespace: %q
redis: { addrs: [%q], username: relay, password: "PLANT@redis:1" }
sources:
  - name: shop
    mysql: { hosts: [%q], user: %q, password: 'PLANT,my"sql' }
    rules:
      - { table: %s.users, keys: ["%s{id}", "%semail:{email}"] }
  - name: orders
    postgres: { hosts: [%q], user: %q, password: "PLANT}postgres", database: %q }
    purge: ["%semail:*"]
http: { listen: "127.0.0.1:0", token: PLANTtoken }
`, c.prefix+"inv", own.Addr(), c.server.Addr(), user, c.schema, c.prefix, c.prefix, pg.Addr(), database, database, c.prefix)
	o := &operated{mysqlCache: c, t: t, file: writeConfig(t, config)}
	code, _, errs := o.command("migrate", "up")
	require.Equal(t, 0, code, errs)
	o.program = start(t, config, "run", "--log-level=debug")
	o.file = o.cmd.Args[len(o.cmd.Args)-1]
	return o
}

// All that the program says in a life with everything in it is searched: the
// log, the pages, the commands as text and as JSON, and every error.
func TestNothingTheProgramSaysHoldsASecretOrAKey(t *testing.T) {
	t.Parallel()
	o := planted(t)
	var said []string
	ask := func(args ...string) {
		run := o.ask
		if args[0] == "check" || args[0] == "position" {
			run = o.command
		}
		_, out, errs := run(args...)
		assert.NotEmpty(t, out+errs, args)
		said = append(said, strings.Join(args, " ")+": "+out+errs)
	}
	look := func() {
		for _, path := range []string{"/status", "/readyz", "/healthz", "/metrics", "/parked", "/parked?show_keys=1", "/none"} {
			_, page := o.get(t, path)
			said = append(said, path+": "+page)
		}
		for _, args := range [][]string{
			{"status"},
			{"health"},
			{"parked"},
			{"parked", "--retry"},
			{"parked", "--drop"},
			{"purge", "--all"},
			{"replay", "--since=1s"},
			{"replay", "--from=nonsense", "--source=shop"},
			{"reload"},
		} {
			ask(args...)
			ask(append(args, "--json")...)
		}
	}
	o.ready(t)
	o.cache(1, "email:PLANT@x")
	o.exec("INSERT INTO users VALUES (1, 'PLANT', 'PLANT@x')")
	o.awaitGone("email:PLANT@x")
	o.says(t, "redis refuses to delete a key")
	look()
	for _, args := range [][]string{{"check"}, {"check", "--json"}, {"position", "show"}, {"position", "show", "--json"}, {"position", "set", "--now", "--source=shop"}} {
		ask(args...)
	}
	good, err := os.ReadFile(o.file)
	require.NoError(t, err)
	for _, change := range [][]string{
		{"PLANT@redis:1", "PLANT@wrong"},
		{`PLANT,my"sql`, "PLANT,wrong"},
		{"PLANT}postgres", "PLANT}wrong"},
		{`"PLANT@redis:1"`, "PLANT,PLANT2: x"},
		{`addrs: ["`, `addrs: ["PLANT@`},
		{"namespace:", "purge_rate: 900\nnamespace:"},
	} {
		o.changes(string(good), change...)
		ask("reload")
		ask("check", "--json")
	}
	require.Eventually(t, func() bool { status, _ := o.get(t, "/readyz"); return status == http.StatusOK }, 10*time.Second, 20*time.Millisecond, o)
	o.exec("DROP TABLE users")
	require.NoError(t, o.rdb.Do(t.Context(), "ACL", "SETUSER", "relay", "resetpass", ">other").Err())
	require.NoError(t, o.rdb.Do(t.Context(), "CLIENT", "KILL", "USER", "relay").Err())
	assert.Equal(t, 1, o.end(t), "a login that is refused")
	ask("status")
	for _, text := range append(said, o.output()) {
		for line := range strings.Lines(text) {
			assert.NotContains(t, line, "PLANT")
		}
	}
}
