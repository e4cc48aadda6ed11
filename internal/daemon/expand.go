package daemon

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// variable matches ${NAME} at the beginning of a text.
var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces each ${NAME} in text by what lookup knows, and $${ by ${.
// It returns the values that it put in. It works on single values of the
// parsed file, so that no value can add YAML.
func expand(text string, lookup func(string) (string, bool)) (expanded string, values []string, err error) {
	var out strings.Builder
	var errs []error
	for text != "" {
		at := strings.Index(text, "${")
		if at < 0 {
			out.WriteString(text)
			break
		}
		if at > 0 && text[at-1] == '$' {
			out.WriteString(text[:at-1] + "${")
			text = text[at+2:]
			continue
		}
		out.WriteString(text[:at])
		text = text[at:]
		found := variable.FindStringSubmatch(text)
		if found == nil {
			errs = append(errs, errors.New(`"${" does not begin a ${NAME}: write "$${" for a literal "${"`))
			break
		}
		text = text[len(found[0]):]
		value, ok := lookup(found[1])
		if !ok {
			errs = append(errs, fmt.Errorf("the environment variable %s is not set: set it, or write \"$${\" for a literal \"${\"", found[1]))
		}
		values = append(values, value)
		out.WriteString(value)
	}
	return out.String(), values, errors.Join(errs...)
}
