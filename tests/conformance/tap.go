// Package tap stands in for github.com/mndrix/tap-go, which Debian does not package: the methods
// that the programs of runtime-tools' validation suite use. build.sh builds
// them with it. Points are numbered through the whole program, not for each T as upstream does:
// some programs make several, and their numbers would start again.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// The number of points that the program has reported so far.
var points int

// T reports the points of one test; its zero value is not used, New makes one.
type T struct {
	nextTestNumber int
	todo           bool
	// Writer is where the report goes; programs may put another.
	Writer io.Writer
}

// New makes a T that reports on standard output.
func New() *T {
	return &T{Writer: os.Stdout}
}

// Header opens the report, with the plan when the number of points is known.
func (t *T) Header(count int) {
	fmt.Fprintln(t.Writer, "TAP version 13")
	if count > 0 {
		fmt.Fprintf(t.Writer, "1..%d\n", count)
	}
}

// Ok reports one point.
func (t *T) Ok(passed bool, description string) {
	t.point(passed, description)
}

func (t *T) point(passed bool, description string) {
	points++
	t.nextTestNumber++
	status := "ok"
	if !passed {
		status = "not ok"
	}
	if t.todo {
		description = "# TODO " + description
	} else {
		description = "- " + description
	}
	fmt.Fprintf(t.Writer, "%s %d %s\n", status, points, description)
}

// Pass reports a point that holds.
func (t *T) Pass(description string) {
	t.point(true, description)
}

// Fail reports a point that does not.
func (t *T) Fail(description string) {
	t.point(false, description)
}

// Skip reports count points that were not looked at.
func (t *T) Skip(count int, description string) {
	for i := 0; i < count; i++ {
		points++
		t.nextTestNumber++
		fmt.Fprintf(t.Writer, "ok %d # SKIP %s\n", points, description)
	}
}

// Todo gives a T whose points may fail.
func (t *T) Todo() *T {
	return &T{nextTestNumber: t.nextTestNumber, todo: true, Writer: t.Writer}
}

// Count is the number of points that this T has reported.
func (t *T) Count() int {
	return t.nextTestNumber
}

// AutoPlan closes a report whose header had no plan.
func (t *T) AutoPlan() {
	fmt.Fprintf(t.Writer, "1..%d\n", points)
}

// Diagnostic writes a comment, one line for each line of the message.
func (t *T) Diagnostic(message string) {
	for _, line := range strings.Split(strings.TrimRight(message, "\n"), "\n") {
		fmt.Fprintf(t.Writer, "# %s\n", line)
	}
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML writes a block of details about the last point. JSON is YAML.
func (t *T) YAML(details interface{}) error {
	block, err := json.MarshalIndent(details, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Writer, "  ---\n  %s\n  ...\n", block)
	return nil
}
