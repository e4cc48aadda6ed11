package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ErrNoConfig is wrapped by Find's error where there is no file.
var ErrNoConfig = errors.New("no configuration file")

// LoadOptions say how Load reads.
type LoadOptions struct {
	// LookupEnv resolves ${NAME}, as os.LookupEnv does. Default: nothing
	// is set.
	LookupEnv func(name string) (value string, ok bool)
	// WithoutSecrets leaves all passwords empty and needs neither their
	// variables nor their files.
	WithoutSecrets bool
	// WithToken reads http.token even so.
	WithToken bool
}

// reads reports whether the secret at a path is wanted.
func (o LoadOptions) reads(path string) bool {
	return !o.WithoutSecrets || o.WithToken && path == "http.token"
}

// Find returns the configuration file to load: path, or where that is empty
// the first of the defaults that exists.
func Find(path string, defaults ...string) (string, error) {
	if path != "" {
		return path, nil
	}
	for _, candidate := range defaults {
		if _, err := os.Stat(candidate); !errors.Is(err, fs.ErrNotExist) {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%w: there is no %s: write one, or name it with --config", ErrNoConfig, strings.Join(defaults, " and no "))
}

// Load reads and checks a configuration file, and the password files that it
// names. Its error is a *ConfigError with every mistake.
func Load(path string, opts LoadOptions) (Config, error) {
	if opts.LookupEnv == nil {
		opts.LookupEnv = func(string) (string, bool) { return "", false }
	}
	found := newProblems(path)
	cfg := Config{PurgeRate: 20_000, HTTP: HTTP{Listen: DefaultListen}}
	cfg.Redis.Mode = "standalone"
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		found.add("", "can not be read: %v", reason(err))
		return cfg, found.err()
	}
	d := &decoder{problems: found, lookup: opts.LookupEnv, reads: opts.reads}
	if !d.file(text, &cfg) {
		return cfg, found.err()
	}
	c := &checker{problems: found, withoutSecrets: opts.WithoutSecrets, reads: opts.reads}
	c.config(&cfg)
	return cfg, found.err()
}

// reason returns what went wrong with a file, without its name.
func reason(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}
