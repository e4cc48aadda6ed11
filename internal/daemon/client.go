package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// longestAnswer bounds what is read of a page.
const longestAnswer = 64 << 20

// Client asks a running daemon.
type Client struct {
	http  *http.Client
	base  string
	where string // as messages call it
	token Secret
}

// NewClient returns a Client of the daemon at addr, which is host:port or the
// path of its Unix socket. token may be empty: over the socket, and for pages
// that are open.
func NewClient(addr string, token Secret) (*Client, error) {
	c := &Client{http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, where: addr, token: token}
	addr = strings.TrimPrefix(strings.TrimPrefix(addr, "unix:"), "http://")
	if strings.Contains(addr, "/") {
		c.base = "http://invalidator"
		c.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", addr)
		}}
		return c, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is neither host:port nor the path of a socket", addr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // it listens everywhere, so here too
	}
	c.base = "http://" + net.JoinHostPort(host, port)
	return c, nil
}

// Get asks for a page.
func (c *Client) Get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.ask(ctx, http.MethodGet, path, nil)
}

// Post sends a command and returns the answer.
func (c *Client) Post(ctx context.Context, path string, body any) ([]byte, error) {
	return c.ask(ctx, http.MethodPost, path, body)
}

func (c *Client) ask(ctx context.Context, method, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	answer, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, longestAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.where, err)
	}
	return text, nil
}

// Follow sends a command and calls each for every line of progress. It returns
// an error where one of the jobs failed.
func (c *Client) Follow(ctx context.Context, path string, body any, each func(Progress)) error {
	answer, err := c.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, longestBody)
	var failed []error
	done := map[string]bool{} // of each source that was heard of
	for lines.Scan() {
		var line Progress
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("%s answers with something else than progress: %w", c.where, err)
		}
		each(line)
		over, err := line.end()
		done[line.Source] = done[line.Source] || over
		if err != nil {
			failed = append(failed, err)
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return errInterrupted
	}
	for source, over := range done {
		if !over {
			failed = append(failed, fmt.Errorf("%s: the daemon went away before it was done: what had begun may go on", source))
		}
	}
	return errors.Join(failed...)
}

// end reports whether a line is the last of its source, and what went wrong.
func (p Progress) end() (over bool, err error) {
	of := strings.TrimPrefix(p.Source+": ", ": ")
	switch p.Event {
	case ProgressDone:
		return true, nil
	case ProgressPartly:
		return true, errors.New(of + "not every key was deleted: " + p.Refused)
	case ProgressFailed:
		return true, errors.New(of + p.Error)
	}
	return false, nil
}

// errInterrupted is that of a command that a signal has ended.
var errInterrupted = errors.New("interrupted: what has begun goes on in the daemon")

// send returns the answer to a request that the daemon serves.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token := c.token.Reveal(); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, c.refused(answer)
}

// unanswered explains why there is no answer. Only where no connection came
// about, no daemon may be running.
func (c *Client) unanswered(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return errInterrupted
	}
	// What stands around the cause repeats the address.
	if at, ok := errors.AsType[*url.Error](err); ok {
		err = at.Err
	}
	at, ok := errors.AsType[*net.OpError](err)
	if ok && at.Op == "dial" {
		return fmt.Errorf("no daemon answers: is it running, and is %s its http.listen or http.socket? %w", c.where, at.Err)
	}
	if ok {
		err = at.Err
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it closed the connection")
	}
	return fmt.Errorf("%s took the request and did not answer it (%w): see its log, and invalidator status", c.where, err)
}

// StatusError is an answer of the daemon that is not 200.
type StatusError struct {
	Status int
	Text   string
}

// Error implements error.
func (e *StatusError) Error() string { return e.Text }

func (c *Client) refused(answer *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(answer.Body, longestBody))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.where, err)
	}
	var why refusal
	if json.Unmarshal(text, &why) == nil && why.Text != "" {
		return &StatusError{answer.StatusCode, why.Text}
	}
	if answer.StatusCode == http.StatusServiceUnavailable {
		return &StatusError{answer.StatusCode, strings.TrimSpace(string(text))}
	}
	return &StatusError{answer.StatusCode, fmt.Sprintf("what answers at %s is no invalidator, or another version of it: %s", c.where, answer.Status)}
}
