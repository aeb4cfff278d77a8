package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// Unlike says on which hosts a plan that stages packages has others than a reviewed
// plan installs.
func Unlike(reviewed, staging *rollout.Plan) (out []string) {
	wanted := map[string][]rollout.Field{}
	reviewed.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if reviewed.Task(id).Module == "fleetd.kernel.package" && s.Change.Action.Writes() {
			wanted[id.Host] = s.Change.Fields
		}
		return true
	})
	staging.Each(func(id rollout.StepID, s rollout.PlannedStep) bool {
		if have := s.Change.Fields; s.Problem == nil && len(have) > 0 && !slices.Equal(have, wanted[id.Host]) {
			out = append(out, fmt.Sprintf("%s: the plan installs %s, to be had is %s", id.Host, fieldsText(wanted[id.Host]), fieldsText(have)))
		}
		return true
	})
	return out
}

func fieldsText(fields []rollout.Field) string {
	var out []string
	for _, f := range fields {
		switch {
		case f.After == "":
			out = append(out, "less "+f.Before)
		case f.Before == "":
			out = append(out, f.After)
		default:
			out = append(out, f.After+" instead of "+f.Before)
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}
