package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// hidden stands for a secret wherever one would be printed.
const hidden = "***"

// Secret is a text that no formatting, encoding or logging shows. It is behind
// a pointer because fmt prints what a field holds, whatever its methods say,
// when the verb is wrong or the field is deep enough.
type Secret struct{ text *string }

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns "***", or "" where there is no secret.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return hidden
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String, for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// redactor replaces secrets in texts that others wrote, such as the errors of
// drivers.
type redactor struct{ secrets *regexp.Regexp } // nil: there are none

// The length below which replacing a text would hide nothing worth hiding, and
// the length below which it is replaced as a whole word only, because it may
// well be a part of an ordinary one.
const (
	shortestRedacted = 3
	shortestInWords  = 8
)

func newRedactor(secrets ...string) redactor {
	secrets = slices.Clone(secrets)
	// The longest first: a secret may begin with another one.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var forms []string
	for _, secret := range secrets {
		if len(secret) < shortestRedacted {
			continue
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), strings.Trim(fmt.Sprintf("%q", secret), `"`)} {
			forms = append(forms, wholeWord(form))
		}
	}
	if len(forms) == 0 {
		return redactor{}
	}
	return redactor{regexp.MustCompile(strings.Join(forms, "|"))}
}

// wholeWord returns the expression that finds a secret.
func wholeWord(secret string) string {
	expression := regexp.QuoteMeta(secret)
	if len(secret) >= shortestInWords {
		return expression
	}
	if isWordByte(secret[0]) {
		expression = `\b` + expression
	}
	if isWordByte(secret[len(secret)-1]) {
		expression += `\b`
	}
	return expression
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (r redactor) text(text string) string {
	if r.secrets == nil {
		return text
	}
	return r.secrets.ReplaceAllLiteralString(text, hidden)
}

// error returns err with the secrets hidden in its text; what it wraps stays.
func (r redactor) error(err error) error {
	if err == nil || r.text(err.Error()) == err.Error() {
		return err
	}
	return redactedError{text: r.text(err.Error()), error: err}
}

// event returns an event without secrets.
func (r redactor) event(e invalidation.Event) invalidation.Event {
	e.Text, e.Err = r.text(e.Text), r.error(e.Err)
	return e
}

type redactedError struct {
	error

	text string
}

func (e redactedError) Error() string { return e.text }
func (e redactedError) Unwrap() error { return e.error }
