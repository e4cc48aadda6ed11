package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

// daemonFlags say where the running daemon is.
type daemonFlags struct {
	configFlag

	Addr string `help:"Where the daemon answers: host:port, or the path of its socket. Default: the configuration's http.socket, or http.listen." placeholder:"ADDR"`
}

// client returns a Client that needs no token.
func (f daemonFlags) client(env *environment) (*daemon.Client, error) {
	return f.clientWith(env, daemon.Secret{}, false)
}

// clientWith returns a Client that bears a token, the configuration's where
// that is asked for. Over a socket none is needed.
func (f daemonFlags) clientWith(env *environment, token daemon.Secret, tokenOfConfig bool) (*daemon.Client, error) {
	addr := f.Addr
	if addr == "" {
		cfg, err := f.configured(env, false)
		if err != nil {
			return nil, err
		}
		if addr, err = addressOf(cfg.HTTP); err != nil {
			return nil, err
		}
	}
	if tokenOfConfig && !strings.Contains(addr, "/") {
		cfg, err := f.configured(env, true)
		if err != nil && (f.Addr == "" || f.Config != "") {
			return nil, err
		}
		token = cfg.HTTP.Token // of a file that happens to be here: none, if it is unusable
	}
	client, err := daemon.NewClient(addr, token)
	if err != nil {
		return nil, usageError{fmt.Errorf("--addr: %w", err)}
	}
	return client, nil
}

// configured returns the configuration as far as a client needs it.
func (f daemonFlags) configured(env *environment, withToken bool) (daemon.Config, error) {
	path, err := daemon.Find(f.Config, defaultConfigs...)
	if errors.Is(err, daemon.ErrNoConfig) {
		return daemon.Config{HTTP: daemon.HTTP{Listen: daemon.DefaultListen}}, nil
	}
	if err != nil {
		return daemon.Config{}, err
	}
	return daemon.Load(path, daemon.LoadOptions{LookupEnv: env.lookupEnv, WithoutSecrets: true, WithToken: withToken})
}

// addressOf returns where a daemon with this section answers: over the socket,
// if there is one.
func addressOf(cfg daemon.HTTP) (string, error) {
	if cfg.Socket != "" {
		if _, err := os.Stat(cfg.Socket); !errors.Is(err, fs.ErrNotExist) {
			return cfg.Socket, nil
		}
	}
	if _, port, err := net.SplitHostPort(cfg.Listen); err == nil && port == "0" {
		return "", errors.New("the configuration lets the system choose the daemon's port: give the one in its log with --addr")
	}
	return cfg.Listen, nil
}

// commandFlags are those of commands that change something, for which the
// daemon wants a token unless they come over its socket.
type commandFlags struct {
	daemonFlags

	TokenFile string `help:"A file with the daemon's http.token. Default: $INVALIDATOR_TOKEN, then the configuration's." placeholder:"FILE"`
}

func (f commandFlags) client(env *environment) (*daemon.Client, error) {
	if f.TokenFile != "" {
		content, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("--token-file: can not be read: %w", err)}
		}
		return f.clientWith(env, daemon.NewSecret(strings.TrimSpace(string(content))), false)
	}
	if token, ok := env.lookupEnv("INVALIDATOR_TOKEN"); ok && token != "" {
		return f.clientWith(env, daemon.NewSecret(token), false)
	}
	return f.clientWith(env, daemon.Secret{}, true)
}

// sourceFlag chooses a source.
type sourceFlag struct {
	Source string `help:"The source, by its name. Default: all." placeholder:"NAME"`
}

// jsonFlag chooses the form of the answer.
type jsonFlag struct {
	JSON bool `help:"Answer in JSON." name:"json"`
}
