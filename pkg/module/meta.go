package module

import (
	"context"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// meta is ansible.builtin.meta, as far as it is a step of a host. That something ends
// where it is done is the task's own [rollout.Ends].
type meta struct {
	touchless
	hosts Hosts
}

const resetConnection = "reset_connection"

// metaTexts say what is done.
var metaTexts = map[string]string{
	"end_host":      "end the play for this host",
	"end_batch":     "end the play for this batch",
	"end_play":      "end the play",
	resetConnection: "close the connection: the next task logs in anew",
}

func (meta) About() rollout.About {
	return rollout.About{Open: rollout.ReadOnly, Uncounted: true, Params: rollout.Params{
		"action": {Type: rollout.String, Required: true, FreeForm: true, Choices: []string{"end_host", "end_batch", "end_play", resetConnection}, Help: "what ends here without having failed, or reset_connection, which logs in anew, as a user that was put into a group has to"},
	}}
}

func (meta) Diff(_ string, before rollout.State, args rollout.Args) (rollout.Change, rollout.State, error) {
	action := text(args, "action")
	return rollout.Change{Action: rollout.ReadOnly, Summary: metaTexts[action], Data: encode(action)}, before, nil
}

func (m meta) Do(_ context.Context, s rollout.Step) rollout.Outcome {
	if mustJSON(resetConnection) == string(s.Change.Data) {
		m.hosts.Forget(s.Host)
	}
	return rollout.AlreadyDone("%s", s.Change.Summary)
}
