package daemon

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAKeyCountsForTheTemplateWithTheLongestBeginning(t *testing.T) {
	t.Parallel()
	of := groups(Source{Rules: []Rule{
		{Keys: []string{"user:{id}", "user:email:{email}"}},
		{Keys: []string{"{{user:{id}}}:cart", "user:{name}"}},
	}})
	for key, group := range map[string]string{
		"user:1": "user:{id}", "user:email:a@x": "user:email:{email}", "{user:1}:cart": "{{user:{id}}}:cart", "order:1": "", "": "",
	} {
		assert.Equal(t, group, of(key), key)
	}
	of = groups(Source{Purge: []string{"order:*", `order:\[x\]:*`, "*:old"}})
	for key, group := range map[string]string{"order:1": "order:*", "order:[x]:1": `order:\[x\]:*`, "1:old": "*:old"} {
		assert.Equal(t, group, of(key), key)
	}
	assert.Empty(t, groups(Source{})("user:1"))
}
