package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

type healthCommand struct {
	Addr string `default:"${listen}" help:"The daemon's http.listen. Default ${default}."`
}

// longestAnswer bounds what is read of a page.
const longestAnswer = 1 << 16

// Run implements the command.
func (c healthCommand) Run(env *environment) error {
	ctx, cancel := context.WithTimeout(env, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Addr+"/readyz", nil)
	if err != nil {
		return usageError{fmt.Errorf("--addr: %q is not host:port", c.Addr)}
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no daemon answers: is it running, and is %s its http.listen? %w", c.Addr, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, longestAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace("not ready\n" + string(text)))
	}
	_, _ = env.out.Write(text)
	return nil
}
