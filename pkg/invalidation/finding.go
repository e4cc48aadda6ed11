package invalidation

// Level says how bad a Finding is.
type Level string

// The levels of a Finding.
const (
	OK   Level = "ok"
	Warn Level = "warn" // works, with a cost or a risk that Text names
	Fail Level = "fail" // does not work, or loses deletes
)

// Finding is what a check found about one requirement.
type Finding struct {
	Level Level `json:"level"`
	// Subject is what was looked at: "binlog_format", "rules[0].keys[1]".
	Subject string `json:"subject"`
	// Text says what is there and why that matters.
	Text string `json:"text"`
	// Fix is the exact statement or setting that mends it. Empty for OK.
	Fix string `json:"fix,omitempty"`
}

// Of returns a finding of this level.
func (l Level) Of(subject, text, fix string) Finding {
	return Finding{Level: l, Subject: subject, Text: text, Fix: fix}
}

// Unless returns the finding of a requirement: OK where it is met, and else one
// of this level, whose text says what is there and why that matters.
func (l Level) Unless(met bool, subject, is, why, fix string) Finding {
	if met {
		return Passed(subject, is)
	}
	return l.Of(subject, is+": "+why, fix)
}

// Passed returns a finding of level OK.
func Passed(subject, text string) Finding {
	return Finding{Level: OK, Subject: subject, Text: text}
}

// AdvisedError is an error that says how to mend it.
type AdvisedError struct {
	Err error
	Fix string // the exact statement or setting
}

func (e AdvisedError) Error() string { return e.Err.Error() + ": " + e.Fix }

// Unwrap returns Err.
func (e AdvisedError) Unwrap() error { return e.Err }
