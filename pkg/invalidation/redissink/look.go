package redissink

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// State is what a cache remembers of a source.
type State struct {
	Leader  string        `json:"leader,omitempty"` // "": nobody leads
	Masters []MasterState `json:"masters"`
}

// MasterState is what one master remembers; Position is "" for nothing.
type MasterState struct {
	Addr     string `json:"addr"`
	Position string `json:"position"`
}

// Look reads what the cache remembers, and changes nothing.
func Look(ctx context.Context, cfg Config) (State, error) {
	s, err := New(cfg)
	if err != nil {
		return State{}, err
	}
	defer s.Close()
	if err := s.look(ctx); err != nil {
		return State{}, explain(s.cfg, err)
	}
	in := s.seen.Load()
	s.layout.Store(in)
	var state State
	if state.Leader, err = s.lease.leader(ctx); err != nil {
		return state, explain(s.cfg, fmt.Errorf("read the lease: %w", err))
	}
	for _, addr := range in.masters {
		found, err := s.lookAt(ctx, addr)
		if err != nil {
			return state, explain(s.cfg, fmt.Errorf("read the position at %s: %w", addr, err))
		}
		state.Masters = append(state.Masters, found...)
	}
	return state, nil
}

func (s *Sink) lookAt(ctx context.Context, addr string) ([]MasterState, error) {
	values, err := s.storedAt(ctx, addr)
	if err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return []MasterState{{Addr: addr}}, nil
	}
	found := make([]MasterState, len(values))
	for i, value := range values {
		position, err := positionOf(value.key, value.text)
		if err != nil {
			return nil, err
		}
		found[i] = MasterState{addr, position}
	}
	return found, nil
}

// storedAt returns what a master stores as positions.
func (s *Sink) storedAt(ctx context.Context, addr string) ([]storedValue, error) {
	sh := newShard(s.cfg, s.scripts, &s.earned, addr, s.placeIn(-1))
	defer sh.close()
	if s.seen.Load().owner != nil {
		here, ahead, err := s.find(ctx, sh)
		return append(here, ahead...), err
	}
	key := s.keyIn(-1)
	value, err := sh.client.Load().Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return []storedValue{{key, value}}, err
}

// Set stores a position on every master, for a daemon that is stopped. It fails
// where one leads.
func Set(ctx context.Context, cfg Config, position string) error {
	s, err := New(cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	other, err := s.lease.once(ctx, "")
	if err != nil {
		return explain(s.cfg, err)
	}
	if other != "" {
		return fmt.Errorf("%s leads: stop it first, or use \"invalidator replay\"", parseHolder(other).Name)
	}
	s.lease.hold(true)
	defer func() { _ = s.Release(context.WithoutCancel(ctx)) }()
	if _, err := s.begin(ctx); err != nil {
		return err
	}
	s.known = true
	return s.Rewind(ctx, func([]string) (string, error) { return position, nil })
}
