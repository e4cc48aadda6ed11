package invalidation_test

import (
	"fmt"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func ExampleRules() {
	rules, err := invalidation.NewRules([]invalidation.Rule{
		{Table: "shop.users", Keys: []string{"user:{id}", "user:email:{email}"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := rules.Keys(nil, invalidation.Row{
		Schema: "shop", Table: "users", Op: invalidation.Update,
		Before: invalidation.Columns{{Name: "id", Value: []byte("42")}, {Name: "email", Value: []byte("old@example.com")}},
		After:  invalidation.Columns{{Name: "id", Value: []byte("42")}, {Name: "email", Value: []byte("new@example.com")}},
	})
	fmt.Println(keys, err)
	// Output: [user:42 user:email:old@example.com user:email:new@example.com] <nil>
}
