package cacheaside_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
)

type User struct{ Name string }

func Example() {
	server, _ := miniredis.Run()
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	ctx, database := context.Background(), map[string]User{"user:42": {Name: "Ada"}}

	rc, err := cacheaside.New(rdb, cacheaside.Options{})
	if err != nil {
		panic(err)
	}
	defer rc.Close()
	users := cacheaside.For[User](rc, cacheaside.Policy{TTL: 10 * time.Minute})
	load := func(context.Context) (User, error) {
		fmt.Println("loading")
		return database["user:42"], nil
	}
	for range 2 { // the second time it comes from Redis
		u, _ := users.Get(ctx, "user:42", load)
		fmt.Println(u.Name)
	}
	_ = rc.Write(ctx, func(context.Context) (stale []string, err error) {
		database["user:42"] = User{Name: "Grace"}
		return []string{"user:42"}, nil
	})
	u, _ := users.Get(ctx, "user:42", load)
	fmt.Println(u.Name)
	// Output:
	// loading
	// Ada
	// Ada
	// loading
	// Grace
}
