// Package deploy holds what an operator copies, and these tests that it fits the program.
package deploy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

// ruleFile is what Prometheus reads of a file of alerts.
type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

var (
	metricName  = regexp.MustCompile(`\binvalidator_[a-z_]+\b`)
	labelValues = regexp.MustCompile(`(state|part|result)=~?"([a-z|]+)"`)
)

// read returns a file of the repository as text.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(path)))
	require.NoError(t, err)
	return string(text)
}

// exposition is what the daemon exports, as its own tests have it.
func exposition(t *testing.T) (text string, names []string) {
	t.Helper()
	text = read(t, "internal/daemon/testdata/metrics.txt")
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			names = append(names, name)
		}
	}
	require.NotEmpty(t, names)
	return text, names
}

func TestAlertsAreMadeOfMetricsThatTheDaemonExports(t *testing.T) {
	t.Parallel()
	exported, names := exposition(t)
	var file ruleFile
	require.NoError(t, yaml.NewDecoder(strings.NewReader(read(t, "deploy/prometheus/alerts.yml")), yaml.Strict()).Decode(&file))
	require.NotEmpty(t, file.Groups)
	seen := map[string]bool{}
	for _, rule := range file.Groups[0].Rules {
		assert.False(t, seen[rule.Alert], "%s is there twice", rule.Alert)
		seen[rule.Alert] = true
		used := metricName.FindAllString(rule.Expr, -1)
		assert.NotEmpty(t, used, rule.Alert)
		for _, name := range used {
			assert.Contains(t, names, name, rule.Alert)
		}
		for _, match := range labelValues.FindAllStringSubmatch(rule.Expr, -1) {
			for value := range strings.SplitSeq(match[2], "|") {
				assert.Contains(t, exported, match[1]+`="`+value+`"`, rule.Alert)
			}
		}
		assert.Equal(t, strings.Count(rule.Expr, "("), strings.Count(rule.Expr, ")"), rule.Alert)
		assert.NotEmpty(t, rule.Labels["severity"], rule.Alert)
		assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		assert.Contains(t, read(t, "docs/operations.md"), rule.Alert, "the manual says what to do about it")
	}
}

func TestEveryMetricIsExplained(t *testing.T) {
	t.Parallel()
	_, names := exposition(t)
	page := read(t, "docs/metrics.md")
	for _, name := range names {
		assert.Contains(t, page, "`"+name+"`")
	}
	for _, name := range metricName.FindAllString(page, -1) {
		assert.Contains(t, names, name, "docs/metrics.md names one that is not there")
	}
}

// load checks a configuration as the daemon does, but for its secrets.
func load(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "invalidator.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	_, err := daemon.Load(path, daemon.LoadOptions{WithoutSecrets: true, LookupEnv: func(string) (string, bool) { return "x", true }})
	assert.NoError(t, err)
}

func TestTheConfigurationsAreOnesThatTheDaemonTakes(t *testing.T) {
	t.Parallel()
	load(t, read(t, "deploy/compose/invalidator.yaml"))
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "deploy/kubernetes/invalidator.yaml")))
	var configMap struct {
		Data map[string]string `yaml:"data"`
	}
	require.NoError(t, decoder.Decode(&configMap))
	load(t, configMap.Data["invalidator.yaml"])
}

func TestTheConfigurationsInTheDocumentsAreOnesThatTheDaemonTakes(t *testing.T) {
	t.Parallel()
	found := 0
	for _, page := range []string{"README.md", "docs/operations.md"} {
		for i, block := range strings.Split(read(t, page), "```yaml\n")[1:] {
			text, _, _ := strings.Cut(block, "```")
			if strings.Contains(text, "namespace:") && strings.Contains(text, "sources:") {
				t.Logf("%s, block %d", page, i)
				load(t, text)
				found++
			}
		}
	}
	assert.GreaterOrEqual(t, found, 3)
}

var link = regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)

func TestLinksInTheDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, err := fs.Glob(os.DirFS(".."), "docs/*.md")
	require.NoError(t, err)
	for _, page := range append(pages, "README.md") {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := page
			if match[1] != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), match[1]))
				_, err := os.Stat(filepath.Join("..", target))
				require.NoError(t, err, "%s links to %s", page, match[1])
			}
			if match[2] != "" {
				assert.Contains(t, anchors(t, target), match[2], "%s links to %s", page, match[0])
			}
		}
	}
}

// anchors returns the headings of a page as links name them.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	var found []string
	dropped := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(read(t, page)) {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			name := dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			found = append(found, "#"+strings.ReplaceAll(name, " ", "-"))
		}
	}
	return found
}
