package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // or a bad configuration
)

// streams is where a command writes.
type streams struct{ out, err io.Writer }

// environment is what every command gets.
type environment struct {
	context.Context //nolint:containedctx // kong binds one value for all commands; it lives as long as run

	streams

	lookupEnv func(string) (string, bool)
}

type cli struct {
	Demo    demoCommand    `cmd:"" help:"Watch an application lose deletes and the daemon repair them; needs nothing but this program."`
	Run     runCommand     `cmd:"" help:"Delete cache entries as the logs name them, until stopped."`
	Check   checkCommand   `cmd:"" help:"Check Redis and the databases before a start; exit 1 if something would not work."`
	Migrate migrateCommand `cmd:"" help:"Install the outbox schema in Postgres, or remove it."`
	Keys    keysCommand    `cmd:"" help:"Show which keys a change of a row deletes."`
	Health  healthCommand  `cmd:"" help:"Ask a running daemon whether it is ready; exit 1 if not."`
	Status  statusCommand  `cmd:"" help:"Show how a running daemon is, source by source."`
	Reload  reloadCommand  `cmd:"" help:"Have a running daemon read its configuration again."`
	Replay  replayCommand  `cmd:"" help:"Have a running daemon delete again what changed since a while ago."`
	Purge   purgeCommand   `cmd:"" help:"Have a running daemon delete all keys that match patterns."`
	Parked  parkedCommand  `cmd:"" help:"List the keys that Redis refuses to delete, retry them or forget them."`

	Position positionCommand `cmd:"" help:"Show where the sources of a stopped daemon begin, or set it."`
	Version  versionCommand  `cmd:"" help:"Show the version."`
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run parses the arguments, runs the command and returns the exit code.
func run(ctx context.Context, args []string, s streams, lookupEnv func(string) (string, bool)) int {
	shown := false // the help was printed, and that is all that was asked for
	parser, err := kong.New(&cli{}, kong.Name("invalidator"), kong.Writers(s.out, s.err),
		kong.Description("When the database commits, every cache entry that a rule or an enqueue names is deleted."),
		kong.Exit(func(int) { shown = true }))
	if err != nil {
		return fail(s, err)
	}
	parsed, err := parser.Parse(args)
	if shown {
		return exitOK
	}
	if err != nil {
		return fail(s, usageError{fmt.Errorf("%w (invalidator --help lists the commands)", err)})
	}
	return fail(s, parsed.Run(&environment{Context: ctx, streams: s, lookupEnv: lookupEnv}))
}

// fail prints an error, one line for each mistake, and returns its exit code.
func fail(s streams, err error) int {
	if err == nil {
		return exitOK
	}
	// An indented line goes on with the one before, as in pgx's errors.
	for line := range strings.SplitSeq(strings.ReplaceAll(err.Error(), "\n\t", " "), "\n") {
		if line != "" {
			_, _ = fmt.Fprintln(s.err, "invalidator: "+line)
		}
	}
	if _, isUsage := errors.AsType[usageError](err); isUsage {
		return exitUsage
	}
	if _, isConfig := errors.AsType[*daemon.ConfigError](err); isConfig || errors.Is(err, daemon.ErrNoConfig) {
		return exitUsage
	}
	return exitFailed
}

// defaultConfigs are where the configuration is looked for.
var defaultConfigs = []string{"invalidator.yaml", "/etc/invalidator/invalidator.yaml"} //nolint:gochecknoglobals // a constant

// configFlag is the flag of all commands that read the configuration.
type configFlag struct {
	Config string `help:"The configuration file. Default: invalidator.yaml, then /etc/invalidator/invalidator.yaml." placeholder:"FILE" short:"c"`
}

func (f configFlag) load(env *environment, withoutSecrets bool) (daemon.Config, error) {
	path, err := daemon.Find(f.Config, defaultConfigs...)
	if err != nil {
		return daemon.Config{}, err
	}
	return daemon.Load(path, daemon.LoadOptions{LookupEnv: env.lookupEnv, WithoutSecrets: withoutSecrets})
}

// printJSON prints a value for other programs, and for people to read.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
