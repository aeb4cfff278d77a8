package rollout

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// tree is tasks as they are written: a task, by its number, or a block.
type tree struct {
	task                  int
	isBlock               bool
	block, rescue, always []*tree
}

// genTrees draws tasks and blocks, and numbers the tasks from next on.
func genTrees(t *rapid.T, depth int, next *int, p *PlannedPlay, least int) []*tree {
	var out []*tree
	for range rapid.IntRange(least, 3).Draw(t, "tasks") {
		if depth == 0 || rapid.IntRange(0, 2).Draw(t, "block") > 0 {
			out = append(out, &tree{task: *next})
			*next++
			continue
		}
		n := &tree{isBlock: true}
		at := len(p.Blocks)
		p.Blocks = append(p.Blocks, Block{Start: *next})
		n.block = genTrees(t, depth-1, next, p, 0)
		p.Blocks[at].Rescue = *next
		n.rescue = genTrees(t, depth-1, next, p, 0)
		p.Blocks[at].Always = *next
		n.always = genTrees(t, depth-1, next, p, 0)
		p.Blocks[at].End = *next
		out = append(out, n)
	}
	return out
}

// reference carries out tasks on one host as Ansible describes blocks.
type reference struct {
	host   string
	script map[StepID][]Outcome
	did    []int
	gone   bool // cannot be reached
	last   int  // the last task that failed
}

func (f *reference) run(nodes []*tree) (bad bool) {
	for _, n := range nodes {
		switch {
		case f.gone:
			return true
		case !n.isBlock:
			s := f.script[StepID{0, n.task, f.host}]
			if s == nil {
				continue
			}
			f.did = append(f.did, n.task)
			if end := s[len(s)-1]; end.Bad() {
				f.gone, f.last = end.Kind == Unreachable, n.task
				return true
			}
		default:
			bad := f.run(n.block)
			if bad && !f.gone && n.holds(n.rescue) {
				bad = f.run(n.rescue)
			}
			if !f.gone && f.run(n.always) || bad {
				return true
			}
		}
	}
	return false
}

func (n *tree) holds(nodes []*tree) bool {
	for _, x := range nodes {
		if !x.isBlock || x.holds(x.block) || x.holds(x.rescue) || x.holds(x.always) {
			return true
		}
	}
	return false
}

// Whatever fails, a host does the tasks that a reading of the blocks says, in their
// order, and is lost where the reading says so; at every point a snapshot decides
// the same.
func TestPropertyBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := 100.0
		play := PlannedPlay{Strategy: rapid.SampledFrom([]Strategy{Linear, Free}).Draw(t, "strategy"), MaxFailPercentage: &all}
		tasks := 0
		trees := genTrees(t, 3, &tasks, &play, 1)
		if tasks == 0 {
			return
		}
		hosts := []string{"a", "b", "c"}
		play.Batches = rapid.SampledFrom([][][]string{{{"a", "b", "c"}}, {{"a"}, {"b", "c"}}}).Draw(t, "batches")
		script := map[StepID][]Outcome{}
		for ti := range tasks {
			task := PlannedTask{Name: fmt.Sprint("task", ti), Module: "test", Steps: map[string]PlannedStep{}}
			for _, h := range hosts {
				if rapid.IntRange(0, 5).Draw(t, "skipped") == 0 {
					continue
				}
				task.Steps[h] = PlannedStep{Change: Change{Action: Update, Disruptive: rapid.IntRange(0, 3).Draw(t, "disruptive") == 0}}
				o := Outcome{Kind: Changed}
				switch rapid.IntRange(0, 7).Draw(t, "ends") {
				case 0, 1, 2:
					o.Kind = Failed
				case 3:
					o = Outcome{Kind: Failed, Ignored: true}
				case 4:
					if rapid.IntRange(0, 2).Draw(t, "gone") == 0 {
						o.Kind = Unreachable
					}
				}
				script[StepID{0, ti, h}] = []Outcome{{Kind: Waiting, After: time.Second}, o}
			}
			play.Tasks = append(play.Tasks, task)
		}
		p := Plan{Schema: PlanSchema, Plays: []PlannedPlay{play}}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		s := newSim(script, draws(t))
		s.check = func(r *Run) { sameAfterSnapshot(t, p, r, s.now) }
		crashAt := rapid.IntRange(0, 40).Draw(t, "crash after")
		r, err := s.execute(p, rapid.IntRange(1, 3).Draw(t, "forks"), crashAt)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			want := reference{host: h, script: script}
			bad := want.run(trees)
			var did []int
			for ti := range tasks {
				if st := r.Step(StepID{0, ti, h}); st != nil && st.Over() {
					did = append(did, ti)
				}
			}
			if d := cmp.Diff(want.did, did); d != "" {
				t.Fatalf("%s of blocks %+v (-wanted +done)\n%s", h, play.Blocks, d)
			}
			at, lost := r.Lost(h)
			if lost != bad || lost && at.Task != want.last {
				t.Fatalf("%s of blocks %+v is lost: %v at task %d, wanted %v at %d", h, play.Blocks, lost, at.Task, bad, want.last)
			}
		}
		if r.Status != Done {
			t.Fatalf("the run ended %s", r.Status)
		}
	})
}

// A host that was not fit for the run is not rescued from that.
func TestProblemIsNotRescued(t *testing.T) {
	p := Plan{Plays: []PlannedPlay{{
		Strategy: Linear, Batches: [][]string{{"a"}}, Blocks: []Block{{Start: 0, Rescue: 1, Always: 2, End: 2}},
		Tasks: []PlannedTask{
			{Module: "test", Steps: map[string]PlannedStep{"a": {Problem: &Problem{Message: "not fit"}}}},
			{Module: "test", Steps: map[string]PlannedStep{}},
		},
	}}}
	id := StepID{0, 0, "a"}
	s := newSim(map[StepID][]Outcome{id: {{Kind: Failed}}}, func(int) int { return 0 })
	r, err := s.execute(p, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, lost := r.Lost("a"); !lost || r.Rescued(id) {
		t.Errorf("lost: %v, rescued: %v; wanted a lost host", lost, r.Rescued(id))
	}
}
