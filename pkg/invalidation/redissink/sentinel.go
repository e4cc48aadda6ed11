package redissink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// askTimeout is how long a node may take to say who the masters are.
const askTimeout = time.Second

// askGrace is how long others may take once enough have answered.
const askGrace = 100 * time.Millisecond

// sentinels asks all Sentinels for the master and believes the one with the
// newest configuration epoch: one that was cut off tells old news.
type sentinels struct {
	name    string
	clients []*redis.SentinelClient
	addrs   []string
}

func newSentinels(cfg Config) *sentinels {
	s := &sentinels{name: cfg.Redis.MasterName, addrs: cfg.Redis.Addrs}
	for _, addr := range s.addrs {
		o := cfg.options(addr, func() {})
		o.DB, o.Username, o.Password = 0, cfg.Redis.SentinelUsername, cfg.Redis.SentinelPassword
		o.CredentialsProvider, o.CredentialsProviderContext, o.StreamingCredentialsProvider, o.OnConnect = nil, nil, nil, nil
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = askTimeout, askTimeout, askTimeout
		s.clients = append(s.clients, redis.NewSentinelClient(o))
	}
	return s
}

type sentinelAnswer struct {
	from   string
	master string
	epoch  int64
	err    error
}

func (s *sentinels) ask(ctx context.Context) (*layout, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answers := make(chan sentinelAnswer, len(s.clients))
	for i, client := range s.clients {
		go func() { answers <- s.askOne(ctx, s.addrs[i], client) }()
	}
	var newest sentinelAnswer
	var errs []error
	var late <-chan time.Time
	for n := range s.clients {
		var a sentinelAnswer
		select {
		case a = <-answers:
		case <-late:
			return &layout{masters: []string{newest.master}}, nil
		}
		if newest.master != "" && n >= len(s.clients)/2 && late == nil {
			late = time.After(askGrace) // a majority has answered: one that is frozen holds nobody up
		}
		switch {
		case a.err != nil:
			errs = append(errs, fmt.Errorf("sentinel %s: %w", a.from, a.err))
		case newest.master == "" || a.epoch > newest.epoch:
			newest = a
		}
	}
	if newest.master == "" {
		return nil, sentinelError(errs)
	}
	return &layout{masters: []string{newest.master}}, nil
}

func (s *sentinels) askOne(ctx context.Context, from string, client *redis.SentinelClient) sentinelAnswer {
	info, err := client.Master(ctx, s.name).Result()
	if err != nil {
		return sentinelAnswer{from: from, err: err}
	}
	epoch, err := strconv.ParseInt(info["config-epoch"], 10, 64)
	if err != nil || info["ip"] == "" {
		return sentinelAnswer{from: from, err: errors.New("an answer that is not one of a Sentinel")}
	}
	// MASTER names the old one, with the new epoch, until the failover has ended.
	addr, err := client.GetMasterAddrByName(ctx, s.name).Result()
	if err != nil || len(addr) != 2 {
		return sentinelAnswer{from: from, err: cmp.Or(err, errors.New("it names no master"))}
	}
	return sentinelAnswer{from: from, master: net.JoinHostPort(addr[0], addr[1]), epoch: epoch}
}

// sentinelError is fatal where every Sentinel answered and said something that
// no wait heals.
func sentinelError(errs []error) error {
	for _, err := range errs {
		if !strings.Contains(err.Error(), "No such master") && !isWrongPassword(err) {
			return fmt.Errorf("ask the Sentinels for the master: %w", errors.Join(errs...))
		}
	}
	if isWrongPassword(errs[0]) {
		return invalidation.Fatal(fmt.Errorf("%w: check sentinel_username and sentinel_password", errs[0]))
	}
	return invalidation.Fatal(fmt.Errorf("%w: check master_name", errs[0]))
}

func (*sentinels) hint(string) {}

func (s *sentinels) close() {
	for _, client := range s.clients {
		_ = client.Close()
	}
}
