package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// TestApproveAsks: only who types the digest of the plan that is shown approves it.
func TestApproveAsks(t *testing.T) {
	plan := rollout.Plan{Schema: rollout.PlanSchema, Plays: []rollout.PlannedPlay{{Name: "Kernels", Batches: [][]string{{"n1"}}, Tasks: []rollout.PlannedTask{{
		Name: "Kernel package is installed", Module: "fleetd.kernel.package",
		Steps: map[string]rollout.PlannedStep{"n1": {Change: rollout.Change{Action: rollout.Create, Summary: "install kernel-ml"}}},
	}}}}}
	if err := plan.Seal(); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	state, approved := "waiting", ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		was := state
		if r.Method == http.MethodPost {
			body, _ := io.ReadAll(r.Body)
			approved, was = string(body), "approved"
		}
		fmt.Fprintf(w, `{"id": 1, "state": %q, "digest": %q, "by": "otto\u001b[2J", "approved_by": "arno", "plan": %s}`, was, plan.Digest, raw)
	}))
	defer s.Close()
	t.Setenv("FLEETD_SERVER", s.URL)
	t.Setenv("FLEETD_TOKEN", "token")
	for answer, want := range map[string]int{
		plan.Digest[:8] + "\n":             exitDone,
		plan.Digest + "\n":                 exitDone,
		plan.Digest[:7] + "\n":             exitError,
		"\n":                               exitError,
		"":                                 exitError,
		"yes\n":                            exitError,
		plan.Digest[1:9] + "\n":            exitError,
		plan.Digest + plan.Digest + "\n":   exitError,
		strings.Repeat("0123456789", 7):    exitError,
		"  " + plan.Digest[:12] + "  \r\n": exitDone,
	} {
		approved = ""
		var out, errs bytes.Buffer
		got := run([]string{"approve", "1"}, strings.NewReader(answer), &out, &errs)
		if got != want || (approved != "") != (want == exitDone) {
			t.Errorf("%q: exit %d, approved %q\n%s%s", answer, got, approved, &out, &errs)
		}
		if text := out.String(); !strings.Contains(text, "install kernel-ml") || strings.Contains(text, "\x1b[2J") {
			t.Errorf("%q is shown", text)
		}
		if approved != "" && !strings.Contains(approved, plan.Digest) {
			t.Errorf("%q was approved", approved)
		}
	}
	for _, state = range []string{"approved", "begun", "expired"} {
		approved = ""
		if got := run([]string{"approve", "1", "--expect", plan.Digest}, strings.NewReader(""), io.Discard, io.Discard); got != exitError || approved != "" {
			t.Errorf("%s: exit %d, approved %q", state, got, approved)
		}
	}
}
