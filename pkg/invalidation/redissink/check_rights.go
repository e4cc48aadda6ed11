package redissink

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed check_rights.lua
var rightsLua string

// right is a command that a Sink sends.
type right struct {
	acl   string // as an ACL names it
	words []string
	what  string // what does not work without it
}

// String says that the user does not have it.
func (r right) String() string { return strings.Join(r.words, " ") + " is refused: " + r.what }

// rights asks the server which of the commands that a Sink sends the user may.
func (c *checks) rights(ctx context.Context, s *checkedServer) {
	subject := s.subject("rights")
	lacking, err := c.lacking(ctx, s.client, slices.Concat(c.toStart(), c.beside()))
	if err != nil {
		c.warn(subject, "", "could not be looked at: %v", err)
		return
	}
	for _, r := range lacking {
		c.fail(subject, c.cfg.grant(r.acl), "%s", r)
	}
	if len(lacking) == 0 {
		c.ok(subject, "all commands on the namespace %q and %d patterns", c.cfg.Namespace, len(c.patterns))
	}
}

// lacking returns those of the needed rights that the user does not have, one
// for each statement that grants them.
func (c *checks) lacking(ctx context.Context, client *redis.Client, needed []right) (found []right, err error) {
	questions := make([]any, len(needed))
	for i, r := range needed {
		text, _ := json.Marshal(r.words) // strings: it does not fail
		questions[i] = text
	}
	allowed, err := client.Eval(ctx, rightsLua, nil, questions...).Int64Slice()
	switch {
	case isNoPermission(err) && mayNotSelect(err):
		return []right{{"+select", []string{"SELECT", strconv.Itoa(c.cfg.Redis.DB)}, "the database can not be chosen"}}, nil
	case isNoPermission(err):
		return []right{{"+eval", []string{"EVAL"}, "the position can not be stored, and no other right could be looked at"}}, nil
	case err != nil:
		return nil, err
	case len(allowed) != len(needed):
		return nil, errors.New("the server does not tell what a user may")
	}
	for i, r := range needed {
		if allowed[i] == 0 && !slices.ContainsFunc(found, func(f right) bool { return f.acl == r.acl }) {
			found = append(found, r)
		}
	}
	return found, nil
}

// toStart lists the commands without which a source can not start.
func (c *checks) toStart() (all []right) {
	keys := "~" + c.cfg.Namespace + ":*"
	for _, cfg := range c.sources {
		position, lease := PositionKey(cfg.Namespace, cfg.Source), cfg.leaseKey()
		all = append(all,
			right{"+get " + keys, []string{"GET", position}, "the position can not be read"},
			right{"+set " + keys, []string{"SET", position, "VALUE"}, "the position can not be stored"},
			right{"+eval", []string{"EVAL", "SCRIPT", "1", position}, "the position can not be stored"},
			right{"+evalsha", []string{"EVALSHA", "SHA1", "1", position}, "the position can not be stored"},
			right{"+get " + keys, []string{"GET", lease}, "the lease can not be read"},
			right{"+set " + keys, []string{"SET", lease, "VALUE"}, "the lease can not be renewed"})
	}
	return append(all, right{"+script|load", []string{"SCRIPT", "LOAD", "SCRIPT"}, "the position can not be stored"})
}

// beside lists the commands without which less works. Whether keys can be
// deleted is asked with one that is made up for each pattern: an ACL narrower
// than that may refuse it and allow all that there are.
func (c *checks) beside() (all []right) {
	keys := "~" + c.cfg.Namespace + ":*"
	for _, pattern := range c.patterns {
		all = append(all, right{"+unlink ~" + pattern, []string{"UNLINK", invalidation.KeyLike(pattern)}, "what matches " + pattern + " can not be deleted"})
	}
	for _, cfg := range c.sources {
		parked := cfg.parkedKey()
		all = append(all,
			right{"+del " + keys, []string{"DEL", cfg.leaseKey()}, "the lease can not be given up, so whoever takes over waits until it expires"},
			right{"+hset " + keys, []string{"HSET", parked, "KEY", "VALUE"}, "keys that can not be deleted can not be parked, and stop the source"},
			right{"+hdel " + keys, []string{"HDEL", parked, "KEY"}, "parked keys can not be retried"},
			right{"+hlen " + keys, []string{"HLEN", parked}, "keys that can not be deleted can not be parked, and stop the source"},
			right{"+hgetall " + keys, []string{"HGETALL", parked}, "parked keys can not be listed"},
			right{"+hexists " + keys, []string{"HEXISTS", parked, "KEY"}, "keys that can not be deleted can not be parked, and stop the source"})
	}
	all = append(all,
		right{"+scan", []string{"SCAN", "0"}, "nothing can be purged"},
		right{"+dbsize", []string{"DBSIZE"}, "nothing can be purged"},
		right{"+info", []string{"INFO", "server"}, "a failover is noticed late"})
	if c.cfg.Redis.IsClusterMode {
		all = append(all,
			right{"+asking", []string{"ASKING"}, "deletes in a slot that moves wait until it has"},
			right{"+cluster|nodes", []string{"CLUSTER", "NODES"}, "nothing can be purged, because slots may be on the move"})
	}
	return all
}

// MayStart asks each master whether the user has the rights without which a Sink
// can not start, and returns an error that wraps invalidation.ErrFatal and names
// the statement that grants them. What does not answer refuses nothing.
func MayStart(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return invalidation.Fatal(err)
	}
	c := newChecks([]Wanted{{Config: cfg}})
	asked := newTopology(c.cfg)
	defer asked.close()
	in, err := asked.ask(ctx)
	if err != nil {
		return c.mayNotAsk(ctx, err)
	}
	for _, addr := range in.masters {
		client := redis.NewClient(c.cfg.options(addr, func() {}))
		lacking, err := c.lacking(ctx, client, c.toStart())
		_ = client.Close()
		if err == nil && len(lacking) > 0 {
			return invalidation.Fatal(fmt.Errorf("redis %s: %s: %s", addr, lacking[0], c.cfg.grant(together(lacking))))
		}
	}
	return nil
}

// mayNotAsk makes it fatal that the user may not ask a cluster for its masters.
func (c *checks) mayNotAsk(ctx context.Context, err error) error {
	if !c.cfg.Redis.IsClusterMode || !strings.Contains(err.Error(), "NOPERM") {
		return nil
	}
	c.clusterFails(ctx, err)
	return invalidation.Fatal(fmt.Errorf("redis: %s: %s", c.findings[0].Text, c.findings[0].Fix))
}

// together returns what grants the rights as one list.
func together(rights []right) string {
	var words []string
	for _, r := range rights {
		for word := range strings.FieldsSeq(r.acl) {
			if !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return strings.Join(words, " ")
}

// grant is the statement that gives the configured user rights.
func (c Config) grant(rights string) string {
	return "ACL SETUSER " + cmp.Or(c.Redis.Username, "default") + " " + rights
}
