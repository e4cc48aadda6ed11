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

func ExampleClient() {
	ctx, db := context.Background(), map[string]User{"user:42": {Name: "Ada"}} // stands for a database
	rdb, stop := connect()
	defer stop()

	rc, err := cacheaside.New(rdb, cacheaside.Options{})
	if err != nil {
		panic(err)
	}
	defer rc.Close()
	users := cacheaside.For[User](rc, cacheaside.Policy{TTL: 10 * time.Minute})
	load := func(context.Context) (User, error) { return db["user:42"], nil }

	u, err := users.Get(ctx, "user:42", load) // loads, and fills the entry
	fmt.Println(u.Name, err)

	err = rc.Write(ctx, func(context.Context) (stale []string, err error) {
		db["user:42"] = User{Name: "Grace"} // commit, and say what that made stale
		return []string{"user:42"}, nil
	})
	fmt.Println("written", err)

	u, err = users.Get(ctx, "user:42", load)
	fmt.Println(u.Name, err)
	// Output:
	// Ada <nil>
	// written <nil>
	// Grace <nil>
}

// connect returns a client of a Redis server that lives in this process.
func connect() (rdb *redis.Client, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	rdb = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return rdb, func() {
		_ = rdb.Close()
		server.Close()
	}
}
