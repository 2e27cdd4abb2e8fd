package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Goal is what a conversion makes of a user's tree.
type Goal string

// The goals of conversions.
const (
	GoalEncrypt Goal = "encrypt"
	GoalDecrypt Goal = "decrypt"
)

// ConvertRequest says what Convert shall do.
type ConvertRequest struct {
	Goal   Goal `json:"goal"`
	DryRun bool `json:"dry_run,omitempty"` // count only
	Wait   bool `json:"wait,omitempty"`    // answer when it has ended, not when it has begun
}

// State says how far a conversion is.
type State string

// The states of a conversion.
const (
	StateQueued     State = "queued"     // waits until fewer users are converted
	StateCounting   State = "counting"   // looks at every entry
	StateConverting State = "converting" // works
	StateBusy       State = "busy"       // entries are in use; tries again soon
	StateDone       State = "done"       // nothing is left that can be converted
	StateStopped    State = "stopped"    // ended before that: the user was locked, or something went wrong (Problem)
)

// Conversion is the progress of converting one user's tree. Field names in JSON are stable.
type Conversion struct {
	Goal      Goal       `json:"goal"`
	State     State      `json:"state"`
	Started   *time.Time `json:"started,omitempty"`
	Entries   int64      `json:"entries"`            // looked at when counting
	Left      int64      `json:"left"`               // entries still to be converted, the next three included
	Busy      int64      `json:"busy,omitempty"`     // of these: in use
	Locked    int64      `json:"locked,omitempty"`   // not readable without the user's key
	Failed    int64      `json:"failed,omitempty"`   // damaged, or refused by the store; see the log
	BytesLeft int64      `json:"bytes_left"`         // stored bytes of Left, about
	Done      int64      `json:"done"`               // entries converted
	Bytes     int64      `json:"bytes"`              // written for these
	Rate      float64    `json:"entries_per_second"` // while converting
	ByteRate  float64    `json:"bytes_per_second"`   // the same
	Remaining float64    `json:"seconds_left"`       // estimate
	Problem   string     `json:"problem,omitempty"`
}

const (
	pathConvert  = "/v1/convert"
	pathPasswd   = "/v1/passwd"
	pathRegister = "/v1/register"
)

// Convert has a user's tree converted. show, if not nil, gets progress about once a second while it is waited for. It
// ends with ctx; a conversion that has begun goes on in the daemon.
func (c *Client) Convert(ctx context.Context, user string, r ConvertRequest, show func(Conversion)) (Conversion, error) {
	hr, err := newRequest(ctx, pathConvert, request{User: []byte(user), Convert: &r})
	if err != nil {
		return Conversion{}, err
	}
	res, err := (&http.Client{Transport: c.http.Transport}).Do(hr) // without a limit of time
	if err != nil {
		return Conversion{}, c.transportError(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Conversion{}, errAnswer
	}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		var a answer
		switch err := json.Unmarshal(lines.Bytes(), &a); {
		case err != nil:
			return Conversion{}, errAnswer
		case a.Error != nil:
			return Conversion{}, a.Error
		case a.Conversion == nil:
			return Conversion{}, errAnswer
		case !a.More:
			return *a.Conversion, nil
		case show != nil:
			show(*a.Conversion)
		}
	}
	return Conversion{}, fmt.Errorf("the daemon's answer broke off: %w", errors.Join(lines.Err(), ctx.Err()))
}

// Register tells the daemon that a process is a session of the user.
func (c *Client) Register(ctx context.Context, user string, pid int) error {
	_, err := c.call(ctx, pathRegister, request{User: []byte(user), PID: pid})
	return err
}

func newRequest(ctx context.Context, path string, req request) (*http.Request, error) {
	text, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mailcryptfs"+path, bytes.NewReader(text))
	if err == nil {
		hr.Header.Set("Content-Type", "application/json")
	}
	return hr, err
}

// convert answers with one line for each piece of progress and a last one; the time of requests does not limit it.
func (s *Server) convert(w http.ResponseWriter, r *http.Request) {
	req, ok := s.receive(w, r)
	if !ok {
		return
	}
	req.wipe()
	user, err := s.subject(req, false)
	if err == nil && (req.Convert == nil || req.Convert.Goal != GoalEncrypt && req.Convert.Goal != GoalDecrypt) {
		err = &Error{CodeBadRequest, "the request does not say what to convert to"}
	}
	if err != nil {
		s.reply(w, answer{Error: asError(err)})
		return
	}
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Time{}); err != nil {
		s.reply(w, answer{Error: asError(err)})
		return
	}
	last, err := s.service.Convert(r.Context(), user, *req.Convert, func(c Conversion) {
		s.reply(w, answer{Conversion: &c, More: true})
		_ = rc.Flush() // a client that has gone ends the context
	})
	if err == nil && req.Convert.Wait && last.State != StateDone && last.State != StateStopped {
		err = &Error{CodeBusy, "the conversion has not ended"} // only its context ends the waiting before
	}
	a := answer{Conversion: &last}
	if err != nil {
		a = failed(r.Context(), err)
	}
	s.reply(w, a)
}

func (s *Server) register(ctx context.Context, req request) (answer, error) {
	user, err := s.subject(req, false)
	if err == nil && req.PID <= 1 {
		err = &Error{CodeBadRequest, fmt.Sprintf("process id %d is not a session", req.PID)}
	}
	if err != nil {
		return answer{}, err
	}
	return answer{Changed: true}, s.service.Register(ctx, user, req.PID)
}
