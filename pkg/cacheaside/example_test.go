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
	ctx, db := context.Background(), database{42: {Name: "Ada"}}
	rdb, stop := connect()
	defer stop()

	rc, err := cacheaside.New(rdb, cacheaside.Options{}) // rdb is a go-redis client
	if err != nil {
		panic(err)
	}
	defer rc.Close()
	users := cacheaside.For[User](rc, cacheaside.Policy{TTL: 10 * time.Minute})

	u, err := users.Get(ctx, "user:42", func(ctx context.Context) (User, error) {
		return db.user(ctx, 42) // only on a miss, and under a lease
	})
	fmt.Println(u.Name, err)

	err = rc.Write(ctx, func(ctx context.Context) (stale []string, err error) {
		return []string{"user:42"}, db.rename(ctx, 42, "Grace") // commits; then the key is deleted
	})
	fmt.Println("written", err)

	u, err = users.Get(ctx, "user:42", func(ctx context.Context) (User, error) { return db.user(ctx, 42) })
	fmt.Println(u.Name, err)
	// Output:
	// Ada <nil>
	// written <nil>
	// Grace <nil>
}

// database stands for a real one.
type database map[int]User

func (d database) user(_ context.Context, id int) (User, error) { return d[id], nil }

func (d database) rename(_ context.Context, id int, name string) error {
	if _, ok := d[id]; !ok {
		return cacheaside.ErrNotFound
	}
	d[id] = User{Name: name}
	return nil
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
