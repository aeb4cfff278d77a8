package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/fleetd/fleetd/pkg/sshexec"
)

func printed(host, out string, status int) sshexec.HostResult {
	return sshexec.HostResult{Host: host, Result: sshexec.Result{Stdout: []byte(out), ExitStatus: status}}
}

func TestExecFolds(t *testing.T) {
	x := NewExecResults()
	defer x.Close()
	open := printed("web5", "6.1\n", 0)
	open.Result.Unfinished = true
	for _, r := range []sshexec.HostResult{
		printed("web3", "6.1\n", 0), {Host: "db1", Err: &sshexec.Error{Host: "db1", Op: "connect", Kind: sshexec.KindUnreachable, Err: errors.New("no route")}},
		open, printed("web1", "6.1\n", 0), printed("web4", "6.1\n", 1), printed("web2", "3.10\x1b[2J\n", 0),
	} {
		x.Add(r)
	}
	var got strings.Builder
	if err := x.Text(&got, Style{}, []string{"web1", "web2", "web3", "web4", "web5", "db1"}); err != nil {
		t.Fatal(err)
	}
	const want = `web1,web3 (2 hosts) | CHANGED | rc=0 >>
6.1
web2 | CHANGED | rc=0 >>
3.10
web4 | FAILED | rc=1 >>
6.1
web5 | CHANGED | rc=0 >>
6.1
(a process that the command left behind still had the output: what it printed later is not here)
unreachable: 1 host: db1
  cannot connect: no route
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &got, want)
	}
	if !x.Failed() {
		t.Error("nothing failed")
	}
}

// many fills x with outputs that are all different, of 1 MB each.
func many(x *ExecResults, n int) (hosts []string) {
	for i := range n {
		h := fmt.Sprintf("web%03d", i)
		hosts = append(hosts, h)
		x.Add(printed(h, strings.Repeat("x", 1<<20)+h, 0))
	}
	return hosts
}

// TestExecHoldsLittle: a thousand hosts of 3 MB each must not fill the bastion.
func TestExecHoldsLittle(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	x := NewExecResults()
	defer x.Close()
	hosts := many(x, 150)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 2*maxHeld {
		t.Errorf("%d MB are held for 150 hosts of 1 MB", m.HeapAlloc>>20)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	var out bytes.Buffer
	if err := x.JSON(&out, hosts); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		line, err := out.ReadBytes('\n')
		var row execRow
		if err != nil || json.Unmarshal(line, &row) != nil || row.Host != h || row.Stdout != strings.Repeat("x", 1<<20)+h {
			t.Fatalf("%s: %d bytes, %v", h, len(row.Stdout), err)
		}
	}
}

// TestExecWithoutRoom: what cannot be kept is said, and what each host's command
// came to is shown all the same.
func TestExecWithoutRoom(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	x := NewExecResults()
	defer x.Close()
	hosts := many(x, 40)
	var out strings.Builder
	err := x.Text(&out, Style{}, hosts)
	if err == nil || !strings.Contains(err.Error(), "set TMPDIR") || strings.Count(out.String(), "| CHANGED | rc=0 >>") != 40 || !strings.Contains(out.String(), "could not be kept") {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
}
