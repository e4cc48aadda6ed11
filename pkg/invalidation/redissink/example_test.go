package redissink_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

func Example() {
	server, err := miniredis.Run()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	sink, err := redissink.New(redissink.Config{
		Redis: &redis.UniversalOptions{Addrs: []string{server.Addr()}}, Namespace: "shop-prod", Source: "shop",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sink.Close()

	ctx := context.Background()
	positions, err := sink.Positions(ctx) // where to resume; here nowhere yet
	fmt.Printf("%q %v\n", positions, err)
	fmt.Println(sink.Apply(ctx, invalidation.Batch{Keys: []string{"user:42"}, Position: "p1"}))
	// Output:
	// [""] <nil>
	// <nil>
}
