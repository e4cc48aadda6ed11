package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// longestBody is how much of a request is read.
	longestBody = 1 << 20
	// answerWithin is how long one answer, or one line of a stream, may take
	// to reach the client.
	answerWithin = 10 * time.Second
)

// refusal is why a request is not served.
type refusal struct {
	status int
	Text   string `json:"error"`
	// Leader is the daemon to ask instead, where that is the reason.
	Leader string `json:"leader,omitempty"`
}

// Error implements error.
func (r *refusal) Error() string { return r.Text }

func refuse(status int, text string) *refusal { return &refusal{status: status, Text: text} }

// refusalOf returns err as an answer.
func refusalOf(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	return refuse(http.StatusServiceUnavailable, err.Error())
}

func writeRefusal(w http.ResponseWriter, r *refusal) {
	if r.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, r.status, r)
}

func writeJSON(w http.ResponseWriter, status int, page any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(page) // the client is gone: nobody is left to tell
}

// readBody decodes a request's body, which has to be one JSON object of known
// fields; an empty one stands for {}.
func readBody(w http.ResponseWriter, r *http.Request, into any) *refusal {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, longestBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("something follows the object")
	}
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", longestBody))
	}
	return refuse(http.StatusBadRequest, "the body is not the JSON object that is expected here: "+err.Error())
}

// stream writes one JSON object in a line, as they come.
type stream struct {
	w       http.ResponseWriter
	encoder *json.Encoder
	control *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return &stream{w: w, encoder: encoder, control: http.NewResponseController(w)}
}

// send writes a line. It fails once the client is gone.
func (s *stream) send(line any) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(answerWithin)) // a recorder of a test has none
	if err := s.encoder.Encode(line); err != nil {
		return err
	}
	_ = s.control.Flush()
	return nil
}
