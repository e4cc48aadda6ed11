package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// planted is the secret that every place of this file holds.
const planted = "hunter2 &pa55"

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Redis: Redis{Password: NewSecret(planted), SentinelPassword: NewSecret(planted)},
		HTTP:  HTTP{Token: NewSecret(planted)},
		Sources: []Source{
			{MySQL: &MySQL{Password: NewSecret(planted)}},
			{Postgres: &Postgres{Password: NewSecret(planted)}},
		},
	}
	secret := cfg.Redis.Password
	log, lines := logged(slog.LevelDebug)
	log.Info("config", slog.Any("secret", secret), slog.Any("mysql", *cfg.Sources[0].MySQL), slog.Any("config", cfg))
	asJSON, err := json.Marshal(cfg)
	require.NoError(t, err)
	asYAML, err := yaml.Marshal(cfg)
	require.NoError(t, err)
	printed := []string{strings.Join(lines(), "\n"), string(asJSON), string(asYAML)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%10.3s"} {
		printed = append(printed, fmt.Sprintf(verb, secret), fmt.Sprintf(verb, &secret), fmt.Sprintf(verb, cfg), fmt.Sprintf(verb, *cfg.Sources[0].MySQL), fmt.Sprintf(verb, *cfg.Sources[1].Postgres))
	}
	for _, text := range printed {
		assert.NotContains(t, text, "hunter2")
		assert.NotContains(t, text, fmt.Sprintf("%x", "hunter2"))
	}
}

func TestErrorsAndEventsOfOthersAreRedacted(t *testing.T) {
	t.Parallel()
	redact := newRedactor(planted, "hunter2", "ab", "")
	base := invalidation.Fatal(errors.New("dial postgres://relay:hunter2%20&pa55@db, redis://:hunter2+%26pa55@cache, hunter2 alone, ab"))
	err := redact.error(base)
	require.EqualError(t, err, "dial postgres://relay:***@db, redis://:***@cache, *** alone, ab")
	require.ErrorIs(t, err, invalidation.ErrFatal)
	require.NoError(t, redact.error(nil))

	log, lines := logged(slog.LevelDebug)
	w := newWatch(log, redact, "shop", "mysql")
	for kind := invalidation.Waiting; kind <= invalidation.Noted; kind++ {
		w.Observe(invalidation.Event{Kind: kind, Part: "source", Text: "text " + planted, Err: base})
	}
	w.stopped(base)
	pages := pagesOf(w)
	printed := lines()
	for _, path := range []string{"/healthz", "/readyz", "/status"} {
		_, body := get(t, pages, path)
		printed = append(printed, body)
	}
	assert.NotContains(t, strings.Join(printed, "\n"), "hunter2")
}

// A secret may stand in any place by mistake; no message repeats it.
func TestNoConfigurationErrorShowsASecret(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile("testdata/good/full.yaml")
	require.NoError(t, err)
	lines := strings.Split(string(good), "\n")
	lookup := func(string) (string, bool) { return "hunter2", true }
	for i := range lines {
		for _, planted := range []string{` "${SECRET}"`, ` {"${SECRET}"`, ` ["${SECRET}"]`, ` "${SECRET}" : x`} {
			broken := append([]string{}, lines...)
			field, _, _ := strings.Cut(broken[i], ":")
			broken[i] = field + ":" + planted
			file := filepath.Join(t.TempDir(), "invalidator.yaml")
			require.NoError(t, os.WriteFile(file, []byte(strings.Join(broken, "\n")), 0o600))
			if _, err := Load(file, LoadOptions{LookupEnv: lookup}); err != nil {
				assert.NotContains(t, err.Error(), "hunter2", broken[i])
			}
		}
	}
}
