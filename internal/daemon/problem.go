package daemon

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ConfigError is every mistake in a configuration file. Load returns it.
type ConfigError struct{ Problems []Problem }

// Problem is one mistake.
type Problem struct {
	File string
	Line int    // 0: the file as a whole
	Path string // such as sources[0].rules[2].keys[0]; "" for the file
	What string // what is wrong, and what to do
}

// Error returns one line for each problem.
func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// String returns file:line: path: what.
func (p Problem) String() string {
	text := p.File
	if p.Line > 0 {
		text = fmt.Sprintf("%s:%d", text, p.Line)
	}
	if p.Path != "" {
		text += ": " + p.Path
	}
	return text + ": " + p.What
}

// newProblems returns an empty collection for a file.
func newProblems(file string) *problems {
	return &problems{file: file, lines: map[string]int{}, broken: map[string]bool{}}
}

// problems collects mistakes and knows on which line each path begins.
type problems struct {
	file  string
	lines map[string]int
	found []Problem
	// broken are the paths whose value is wrong or missing.
	broken map[string]bool
	// secret are the texts that came from the environment or a file, or
	// stand where a secret belongs; no message repeats them.
	secret []string
}

// add notes a mistake at a path.
func (p *problems) add(path, format string, args ...any) {
	p.broken[path] = true
	p.addAt(p.line(path), path, format, args...)
}

// addAt notes a mistake beside a path, on a line of its own: a field that
// should not be there.
func (p *problems) addAt(line int, path, format string, args ...any) {
	p.found = append(p.found, Problem{File: p.file, Line: line, Path: path, What: fmt.Sprintf(format, args...)})
}

// lastStep is the part of a path below its parent: .name or [1].
var lastStep = regexp.MustCompile(`(\.[^.\[\]]*|\[\d+\]|^[^.\[\]]*)$`)

// line returns the line of path, or of the nearest thing above it.
func (p *problems) line(path string) int {
	for path != "" {
		if line, ok := p.lines[path]; ok {
			return line
		}
		path = parent(path)
	}
	return p.lines[""]
}

func parent(path string) string { return lastStep.ReplaceAllString(path, "") }

// err returns the mistakes in the order of the file, nil for none.
func (p *problems) err() error {
	if len(p.found) == 0 {
		return nil
	}
	redact := newRedactor(p.secret...)
	for i := range p.found {
		p.found[i].What = redact.text(strings.ReplaceAll(p.found[i].What, "\n", " "))
	}
	slices.SortStableFunc(p.found, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &ConfigError{Problems: p.found}
}

// reported tells whether a path is broken, or is below one that is: what
// follows from that is not worth a line.
func (p *problems) reported(path string) bool {
	for ; path != ""; path = parent(path) {
		if p.broken[path] {
			return true
		}
	}
	return false
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
