package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// fetch asks the server whose address is in serve.log, until what it answers
// matches: fetch /api/v1/runs '"status":"done"'.
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[1])
	address := regexp.MustCompile(`http://[0-9.:]+`)
	last := ""
	defer func() { ts.Logf("%.2000s", last) }()
	until(ts, args[0]+" answers "+args[1], func() bool {
		log, err := os.ReadFile(ts.MkAbs("serve.log"))
		if err != nil {
			return false // it is not there yet
		}
		r, err := http.NewRequest(http.MethodGet, address.FindString(string(log))+args[0], nil)
		if err != nil {
			return false
		}
		r.Header.Set("Authorization", "Bearer script-token")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		last = string(body)
		return err == nil && want.Match(body)
	})
}

// send asks the server for something that changes something, once, and compares the
// answer: send TOKEN PATH BODY 'regexp'. @FILE is what is in a file.
func send(ts *testscript.TestScript, _ bool, args []string) {
	address := regexp.MustCompile(`http://[0-9.:]+`).FindString(ts.ReadFile("serve.log"))
	body := args[2]
	if file, is := strings.CutPrefix(body, "@"); is {
		body = ts.ReadFile(file)
	}
	r, err := http.NewRequest(http.MethodPost, address+args[1], strings.NewReader(body))
	ts.Check(err)
	r.Header.Set("Authorization", "Bearer "+args[0])
	res, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	ts.Check(err)
	if !regexp.MustCompile(args[3]).Match(answer) {
		ts.Fatalf("%d: %s", res.StatusCode, answer)
	}
}
