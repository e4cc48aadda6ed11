package delaydelete_test

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/delaydelete"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// printer is a Sink that shows what it is asked to delete.
type printer struct{ applied chan struct{} }

func (p printer) Positions(context.Context) ([]string, error) { return []string{""}, nil }

func (p printer) Apply(_ context.Context, b invalidation.Batch) error {
	fmt.Printf("delete %v, then remember %q\n", b.Keys, b.Position)
	p.applied <- struct{}{}
	return nil
}

func Example() {
	cache := printer{applied: make(chan struct{}, 2)}
	second, err := delaydelete.New(delaydelete.Config{Next: cache, Delay: time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- second.Run(ctx) }()

	// A Source calls Apply; an application can do so too, after its commit.
	_ = second.Apply(ctx, invalidation.Batch{Keys: []string{"user:42"}, Position: "7"})
	<-cache.applied
	<-cache.applied
	cancel()
	fmt.Println(<-ended)
	// Output:
	// delete [user:42], then remember ""
	// delete [user:42], then remember "7"
	// context canceled
}
