package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// release is set by the linker where neither a module version nor a checkout
// tells: go build -ldflags "-X main.release=v1.2.3".
var release string //nolint:gochecknoglobals // the linker can set nothing else

type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(env *environment) error {
	_, err := fmt.Fprintln(env.out, "invalidator "+version())
	return err
}

// version is what the build recorded: the module's version where it was
// installed as one, and the commit where it was built from a checkout.
func version() string {
	text := []string{moduleVersion()}
	if at := revision(); at != "" {
		text = append(text, at)
	}
	return strings.Join(append(text, runtime.Version()), " ")
}

func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(release, "unknown")
	}
	return cmp.Or(release, info.Main.Version)
}

// revision returns the commit, "" where the build does not know it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
