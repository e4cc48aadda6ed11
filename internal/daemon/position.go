package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// StoredPosition is what the cache remembers of a source.
type StoredPosition struct {
	Source string `json:"source"`
	redissink.State
}

// Positions reads what the cache remembers of a source, or of all where the
// name is empty. It talks to Redis only.
func Positions(ctx context.Context, cfg Config, name string) ([]StoredPosition, error) {
	sources, err := cfg.named(name)
	if err != nil {
		return nil, err
	}
	w := offline(cfg)
	var all []StoredPosition
	for _, src := range sources {
		at, err := w.sinkConfig(src)
		if err != nil {
			return nil, err
		}
		within, cancel := context.WithTimeout(ctx, commandWithin)
		state, err := redissink.Look(within, at)
		cancel()
		if err != nil {
			return nil, cfg.Redact(fmt.Errorf("source %s: %w", src.Name, timely(within, err)))
		}
		all = append(all, StoredPosition{src.Name, state})
	}
	return all, nil
}

// SetPosition stores a position for a source whose daemon is stopped: the given
// one, or where it is empty the end of the log as of now. It returns it.
func SetPosition(ctx context.Context, cfg Config, name, position string) (string, error) {
	sources, err := cfg.named(name)
	if err != nil {
		return "", err
	}
	if len(sources) > 1 {
		return "", fmt.Errorf("%w: the configuration has several sources: choose one with --source: %s", ErrWhichSource, strings.Join(cfg.names(), ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	position, err = setPosition(ctx, offline(cfg), sources[0], position)
	if err != nil {
		return "", cfg.Redact(fmt.Errorf("source %s: %w", sources[0].Name, timely(ctx, err)))
	}
	return position, nil
}

func setPosition(ctx context.Context, w wiring, src Source, position string) (string, error) {
	at, err := w.sinkConfig(src)
	if err != nil {
		return "", err
	}
	// Before the database is asked: what leads is the better answer.
	state, err := redissink.Look(ctx, at)
	if err != nil {
		return "", err
	}
	if state.Leader != "" {
		return "", fmt.Errorf("%s leads: stop it first, or let it begin again with invalidator replay", state.Leader)
	}
	read, err := w.reader(src, dryRunSink{}, invalidation.NoObserver())
	if err != nil {
		return "", err
	}
	if position == "" {
		position, err = read.Now(ctx)
	} else {
		position, err = read.CompletePosition(ctx, position, nil)
	}
	if err != nil {
		return "", err
	}
	return position, redissink.Set(ctx, at, position)
}

// ErrWhichSource is wrapped by errors about a name of a source that is missing
// or unknown.
var ErrWhichSource = errors.New("--source")

// named returns the source of a name, or all where it is empty.
func (c Config) named(name string) ([]Source, error) {
	if name == "" {
		return c.Sources, nil
	}
	for _, s := range c.Sources {
		if s.Name == name {
			return []Source{s}, nil
		}
	}
	return nil, fmt.Errorf("%w: there is no source %q: there is %s", ErrWhichSource, name, strings.Join(c.names(), ", "))
}

func (c Config) names() []string {
	names := make([]string, len(c.Sources))
	for i, s := range c.Sources {
		names[i] = s.Name
	}
	return names
}

// offline makes parts that are asked something and never run.
func offline(cfg Config) wiring {
	return wiring{cfg: cfg, log: slog.New(slog.DiscardHandler), redact: newRedactor(cfg.secrets()...)}
}
