package demo

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const defaultListen = "127.0.0.1:8080"

// Options say what Run does.
type Options struct {
	// Listen is where the page with the numbers is, as host:port.
	// Default 127.0.0.1:8080. Not used with Headless.
	Listen string
	// Duration is how long the application runs. 0: until ctx is done.
	Duration time.Duration
	// Headless opens no port for a page.
	Headless bool
	// Lose is the share, from 0 to 1, of the application's own deletes
	// that never reach the cache.
	Lose float64
	// NoDaemon runs the same application without the relay.
	NoDaemon bool
	// Out gets a first line, one line a second, and a last line. Default:
	// nobody reads them.
	Out io.Writer
}

// Check returns one line for each option that is wrong.
func (o Options) Check() error {
	var errs []error
	if !(o.Lose >= 0 && o.Lose <= 1) { // also true of NaN
		errs = append(errs, fmt.Errorf("--lose: %v is not a share: give a number from 0 to 1, such as 0.2", o.Lose))
	}
	if o.Duration < 0 {
		errs = append(errs, fmt.Errorf("--duration: %v is negative: give a time such as 30s, or 0 to run until Ctrl-C", o.Duration))
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil && o.Listen != "" && !o.Headless {
		errs = append(errs, fmt.Errorf("--listen: %q is not host:port, such as %q", o.Listen, defaultListen))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = defaultListen
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	return o
}
