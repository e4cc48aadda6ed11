package main

import (
	"errors"
	"net/http"
	"strings"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type healthCommand struct{ daemonFlags }

// Run implements the command.
func (c healthCommand) Run(env *environment) error {
	client, err := c.client(env)
	if err != nil {
		return err
	}
	text, err := client.Get(env, "/readyz", nil)
	if answer, ok := errors.AsType[*daemon.StatusError](err); ok && answer.Status == http.StatusServiceUnavailable {
		return errors.New(strings.TrimSpace("not ready\n" + answer.Text))
	}
	if err != nil {
		return err
	}
	_, err = env.out.Write(text)
	return err
}
