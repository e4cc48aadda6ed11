package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type healthCommand struct {
	daemonFlags
	jsonFlag
}

// Run implements the command.
func (c healthCommand) Run(env *environment) error {
	client, err := c.client(env)
	if err != nil {
		return err
	}
	var query url.Values
	if c.JSON {
		query = url.Values{"json": {"true"}}
	}
	text, err := client.Get(env, "/readyz", query)
	if answer, ok := errors.AsType[*daemon.StatusError](err); ok && answer.Status == http.StatusServiceUnavailable {
		if c.JSON {
			_, _ = fmt.Fprintln(env.out, answer.Text)
			return errors.New("not ready")
		}
		return errors.New(strings.TrimSpace("not ready\n" + answer.Text))
	}
	if err != nil {
		return err
	}
	_, err = env.out.Write(text)
	return err
}
