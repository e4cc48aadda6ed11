package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type keysCommand struct {
	configFlag

	jsonFlag

	Expect string `help:"Exit 1 unless this key is among them." placeholder:"KEY"`
	Table  string `arg:"" help:"The table, as schema.table."`
	Row    string `arg:"" help:"The row as JSON: {\"id\": 42, …}, or {\"before\": {…}, \"after\": {…}} for an update." name:"json"`
}

// Run implements the command.
func (c keysCommand) Run(env *environment) error {
	cfg, err := c.load(env, true)
	if err != nil {
		return err
	}
	keys, err := daemon.Keys(cfg, c.Table, []byte(c.Row))
	if errors.Is(err, daemon.ErrBadRow) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if err := c.print(env.out, keys); err != nil {
		return err
	}
	if c.Expect != "" && !slices.Contains(keys, c.Expect) {
		return fmt.Errorf("%s is not among the keys that this row deletes: %s", c.Expect, strings.Join(keys, " "))
	}
	return nil
}

func (c keysCommand) print(out io.Writer, keys []string) error {
	if c.JSON {
		return printJSON(out, append([]string{}, keys...))
	}
	for _, key := range keys {
		if _, err := fmt.Fprintln(out, key); err != nil {
			return err
		}
	}
	return nil
}
