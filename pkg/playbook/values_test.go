package playbook

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetd/fleetd/pkg/rollout"
	"github.com/fleetd/fleetd/pkg/value"
)

func TestCoerce(t *testing.T) {
	str := rollout.Param{Type: rollout.String}
	choice := rollout.Param{Type: rollout.String, Choices: []string{"BPF", "Iptables"}}
	yes := rollout.Param{Type: rollout.Bool}
	num := rollout.Param{Type: rollout.Int}
	dur := rollout.Param{Type: rollout.Duration}
	list := rollout.Param{Type: rollout.Strings}
	day := value.Timestamp{ISO: "2024-02-03T04:05:06", Str: "2024-02-03 04:05:06", Repr: "datetime.datetime(2024, 2, 3, 4, 5, 6)"}
	const bad = "error"
	for _, c := range []struct {
		in   any
		p    rollout.Param
		want any
	}{
		{"a", str, "a"}, {int64(5), str, "5"}, {6.1, str, bad}, {true, str, bad}, {[]any{}, str, bad}, {&value.Map{}, str, bad}, {nil, str, nil},
		{value.Unsafe("{{ x }}"), str, "{{ x }}"},
		{day, str, "2024-02-03 04:05:06"}, {[]any{day}, list, []any{"2024-02-03 04:05:06"}}, {day, num, bad}, {day, dur, bad}, {day, yes, bad},
		{"BPF", choice, "BPF"}, {"bpf", choice, bad}, {"", choice, bad},
		{true, yes, true}, {"yes", yes, true}, {"OFF", yes, false}, {int64(1), yes, true}, {int64(0), yes, false}, {int64(2), yes, bad}, {"maybe", yes, bad},
		{[]any{}, yes, bad}, {"1.0", yes, true},
		{int64(5), num, int64(5)}, {"5", num, int64(5)}, {" 5 ", num, int64(5)}, {5.0, num, int64(5)}, {5.5, num, bad}, {"5.5", num, bad}, {"x", num, bad}, {true, num, bad},
		{math.NaN(), num, bad}, {math.Inf(1), num, bad}, {1e300, num, bad},
		{"10m", dur, "10m0s"}, {"90", dur, "1m30s"}, {int64(90), dur, "1m30s"}, {1.5, dur, "1.5s"}, {"1.5", dur, "1.5s"}, {"1h30m", dur, "1h30m0s"}, {int64(0), dur, "0s"},
		{"-5s", dur, bad}, {int64(-5), dur, bad}, {"soon", dur, bad}, {true, dur, bad}, {int64(math.MaxInt64), dur, bad}, {math.NaN(), dur, bad}, {"inf", dur, bad}, {"", dur, bad},
		{"a", list, []any{"a"}}, {[]any{"a", int64(2)}, list, []any{"a", "2"}}, {[]any{}, list, []any{}}, {[]any{[]any{}}, list, bad}, {[]any{nil}, list, bad}, {2.5, list, bad},
		{"x", rollout.Param{Type: "colour"}, bad},
	} {
		got, err := coerce(c.in, nil, c.p)
		if c.want == bad {
			if err == nil {
				t.Errorf("%#v as %s: got %#v", c.in, c.p.Type, got)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("%#v: error over several lines: %v", c.in, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%#v as %s: %v", c.in, c.p.Type, err)
		} else if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%#v as %s (-want +got)\n%s", c.in, c.p.Type, d)
		}
	}
}
