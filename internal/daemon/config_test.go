package daemon

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

var update = flag.Bool("update", false, "write the messages of testdata/bad anew")

// env is the environment of the test files.
func env(name string) (string, bool) {
	value, ok := map[string]string{
		"MYSQL_PASSWORD": `pa55: "w0rd" {`,
		"NAMESPACE":      "shop",
		"REDIS":          "127.0.0.1:6379",
		"EVIL":           "x\nnamespace: evil",
	}[name]
	return value, ok
}

func load(path string) (Config, error) { return Load(path, LoadOptions{LookupEnv: env}) }

func TestEveryMistakeIsReportedOnALineOfItsOwn(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			_, err := load(file)
			require.Error(t, err)
			got := strings.ReplaceAll(err.Error(), "testdata/bad/", "") + "\n"
			want := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(want, []byte(got), 0o600))
			}
			text, err := os.ReadFile(want)
			require.NoError(t, err)
			assert.Equal(t, string(text), got)
			assert.NotContains(t, got, "hunter2", "a secret")
			assert.NotContains(t, got, "pa55", "a secret")
			assert.NotContains(t, got, "12345678", "a secret")
		})
	}
}

func TestAByteOrderMarkIsNoPartOfTheFirstField(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/full.yaml")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "invalidator.yaml")
	require.NoError(t, os.WriteFile(file, append([]byte("\ufeff"), text...), 0o600))
	_, err = Load(file, LoadOptions{LookupEnv: env, WithoutSecrets: true})
	require.NoError(t, err)
}

func TestAFullFileIsRead(t *testing.T) {
	t.Parallel()
	got, err := load("testdata/good/full.yaml")
	require.NoError(t, err)
	assert.Equal(t, Config{
		Namespace: "shop-prod",
		Redis: Redis{
			Mode: "standalone", Addrs: []string{"127.0.0.1:6379"}, Username: "invalidator",
			Password: NewSecret("redis-pa55"), PasswordFile: "testdata/secrets/redis", DB: 1, TLS: &TLS{ServerName: "redis.internal"},
		},
		Sources: []Source{
			{
				Name:           "shop",
				MySQL:          &MySQL{Hosts: []string{"127.0.0.1:3306"}, User: "repl", Password: NewSecret(`pa55: "w0rd" {`)},
				ReadsFrom:      []string{"replica.internal:3306"},
				OnLostPosition: OnLost{invalidation.PurgeOnLost},
				SecondDelete:   SecondDelete(5 * time.Second),
				Rules:          []Rule{{Table: "shop.users", Keys: []string{"user:{id}", "user:email:{email}"}, Columns: []string{"name", "email"}}},
			},
			{
				Name:           "orders",
				Postgres:       &Postgres{Hosts: []string{"127.0.0.1:5432"}, User: "relay", Password: NewSecret("a${b"), Database: "orders"},
				OnLostPosition: OnLost{invalidation.FailOnLost},
			},
		},
		PurgeRate: -1, HTTP: HTTP{Listen: "127.0.0.1:9000"}, ShowKeys: true,
	}, got)
}

func TestSentinelsAndAGuardedAdminServerAreRead(t *testing.T) {
	t.Parallel()
	got, err := load("testdata/good/sentinel.yaml")
	require.NoError(t, err)
	assert.Equal(t, Redis{
		Mode: "sentinel", Addrs: []string{"127.0.0.1:26379", "127.0.0.1:26380"}, MasterName: "mymaster",
		Username: "app", Password: NewSecret("redis-pa55"), PasswordFile: "testdata/secrets/redis", DB: 3,
		SentinelUsername: "watcher", SentinelPassword: NewSecret(`pa55: "w0rd" {`),
	}, got.Redis)
	assert.Equal(t, HTTP{
		Listen: "127.0.0.1:8377", Token: NewSecret("redis-pa55"), TokenFile: "testdata/secrets/redis", Socket: "/run/invalidator.sock",
	}, got.HTTP)
}

func TestTheDefaultsAreFilledIn(t *testing.T) {
	t.Parallel()
	got, err := load("testdata/good/smallest.yaml")
	require.NoError(t, err)
	assert.Equal(t, "standalone", got.Redis.Mode)
	assert.Equal(t, 20_000, got.PurgeRate)
	assert.Equal(t, "127.0.0.1:8377", got.HTTP.Listen)
	assert.Zero(t, got.Sources[0].SecondDelete)
	assert.False(t, got.ShowKeys)
}

func TestWithoutSecretsNeitherVariablesNorFilesAreNeeded(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "invalidator.yaml")
	text, err := os.ReadFile("testdata/good/full.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "secrets/redis", "none")), 0o600))
	got, err := Load(file, LoadOptions{WithoutSecrets: true})
	require.NoError(t, err)
	assert.Empty(t, strings.Join(got.secrets(), ""))
}

func TestFindPrefersTheNamedFileThenTheFirstThatExists(t *testing.T) {
	t.Parallel()
	got, err := Find("named.yaml", "doc.go")
	require.NoError(t, err)
	assert.Equal(t, "named.yaml", got)
	got, err = Find("", "none.yaml", "doc.go")
	require.NoError(t, err)
	assert.Equal(t, "doc.go", got)
	_, err = Find("", "none.yaml", "nor.yaml")
	require.ErrorIs(t, err, ErrNoConfig)
	assert.EqualError(t, err, "no configuration file: there is no none.yaml and no nor.yaml: write one, or name it with --config")
}

func TestAFileThatIsNotThereIsOneLine(t *testing.T) {
	t.Parallel()
	_, err := load("none.yaml")
	require.EqualError(t, err, "none.yaml: can not be read: no such file or directory")
}
