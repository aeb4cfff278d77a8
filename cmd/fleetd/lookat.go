package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/fleetd/fleetd/pkg/server"
	"github.com/fleetd/fleetd/pkg/text"
)

// lookAt looks at a fleet at its time, as fleetd compliance does, and leaves the report
// in the journal. There is nobody to ask for a password.
func lookAt(ctx context.Context, state string, fl server.Fleet, log *slog.Logger) error {
	c, f := &cobra.Command{}, &fleetFlags{}
	f.addInventory(c)
	f.addConnection(c)
	f.addPlaybook(c)
	f.addState(c)
	said := logLines{log: log.With("fleet", fl.Name)}
	c.SetContext(ctx)
	c.SetIn(strings.NewReader(""))
	c.SetErr(&said)
	defer said.flush()
	f.state, f.kubeconfig = state, fl.Kubeconfig
	if fl.Playbook != "" {
		f.playbook = fl.Playbook
	}
	r, _, err := assess(c, f, []string{fl.Inventory}, fl.Policy)
	if err != nil {
		return err
	}
	return f.remember(ctx, &r, fl.Name)
}

// logLines makes a line of the log of each line that is written to it.
type logLines struct {
	log  *slog.Logger
	mu   sync.Mutex
	rest []byte
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.rest = rest
		l.say(line)
	}
}

func (l *logLines) say(line []byte) {
	if said := strings.TrimSpace(string(line)); said != "" {
		l.log.Warn(text.Printable(strings.TrimPrefix(said, "warning: ")))
	}
}

// flush takes what has no end of line.
func (l *logLines) flush() { l.say(l.rest) }
