package binlog

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStatementsAreClassified(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]effects{
		"TRUNCATE TABLE users":                           mentioned,
		"truncate users":                                 mentioned,
		"/* by a tool */ -- x\n TRUNCATE users":          mentioned,
		"/*! TRUNCATE users */":                          mentioned,
		"DROP TABLE IF EXISTS `users` /* generated */":   mentioned,
		"RENAME TABLE users TO moved":                    mentioned,
		"ALTER TABLE users ADD COLUMN user INT":          mentioned,
		"ALTER USER app IDENTIFIED BY 'x'":               harmless,
		"CREATE TABLE users (id INT)":                    mentioned,
		"CREATE DEFINER=`a`@`b` TRIGGER x BEFORE UPDATE": harmless,
		"CREATE OR REPLACE VIEW v AS SELECT 1":           harmless,
		"DROP DATABASE shop":                             mentioned,
		"GRANT SELECT ON shop.users TO app":              harmless,
		"FLUSH TABLES":                                   harmless,
		"UPDATE users SET name = 'x'":                    everything,
		"INSERT INTO users VALUES (1)":                   everything,
		"WITH x AS (SELECT 1) DELETE FROM users":         everything,
		"CALL something()":                               everything,
		"":                                               harmless,
	} {
		assert.Equal(t, want, effect(words(withoutComments(query), 0)), query)
	}
}

func TestWordsAreIdentifiersWithTheirQualifiers(t *testing.T) {
	t.Parallel()
	got := words("DROP TABLE `we``ird` , shop . users, \"quoted\" 'a literal' , über", 0)
	assert.Equal(t, []word{
		{text: "DROP", upper: "DROP"},
		{text: "TABLE", upper: "TABLE"},
		{text: "we`ird"},
		{text: "shop", upper: "SHOP"},
		{text: "users", upper: "USERS", qualified: true},
		{text: "quoted"},
		{text: "über", upper: "ÜBER"},
	}, got)
	assert.Len(t, words("a b c", 2), 2)
}

func FuzzWords(f *testing.F) {
	f.Add("TRUNCATE `a`.\"b\" 'c\\'d'")
	f.Fuzz(func(_ *testing.T, query string) { effect(words(query, 0)) })
}

func TestXAPrepareNamesTheTransactionAsXACommitDoes(t *testing.T) {
	t.Parallel()
	event := append([]byte{0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0}, "onex"...)
	xid, onePhase, err := parsePrepare(event)
	require.NoError(t, err)
	assert.False(t, onePhase)
	verb, committed := xaVerb("XA COMMIT X'6f6e65',X'78',1")
	assert.Equal(t, "COMMIT", verb)
	assert.Equal(t, committed, xid)
	for n := range len(event) {
		_, _, err := parsePrepare(event[:n])
		require.Error(t, err, "cut at %d", n)
	}
}

func TestPositionsSurviveEncoding(t *testing.T) {
	t.Parallel()
	done, err := parseGTIDs("11111111-1111-1111-1111-111111111111:1-5:7")
	require.NoError(t, err)
	text := (&position{server: "22222222-2222-2222-2222-222222222222", done: done, rules: []string{"r"}}).encode()
	assert.JSONEq(t, `{"server":"22222222-2222-2222-2222-222222222222","gtids":"11111111-1111-1111-1111-111111111111:1-5:7","rules":["r"]}`, text)
	p, err := parsePosition(text)
	require.NoError(t, err)
	assert.Equal(t, text, p.encode())
	_, err = parsePosition("{}")
	require.ErrorContains(t, err, "unreadable")
}

func TestWrongConfigIsRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Hosts: []string{"nohost"}, OnLost: "never"})
	for _, want := range []string{"Name is empty", `"nohost" is not host:port`, "User is empty", "Mapper is nil", "Sink is nil", `"never" is neither`} {
		assert.ErrorContains(t, err, want)
	}
}
