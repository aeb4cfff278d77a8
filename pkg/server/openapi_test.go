package server

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// TestOpenAPI holds the document against the server: every route of the API is in
// it and no other, and what is answered is as it says.
func TestOpenAPI(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openapiText)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}

	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)

	dir := t.TempDir()
	rec := recordRun(t, dir, "20261127-000000-0001", fleet(8))
	rec.play(1<<30, failing("worker03", "worker04"))
	if err := rec.lock.Release(); err != nil {
		t.Fatal(err)
	}
	halting := fleet(8)
	zero := 0.0
	halting.Plays[0].MaxFailPercentage = &zero
	rec = recordRun(t, dir, "20261127-010000-0002", halting)
	rec.play(1<<30, failing("worker02"))
	if err := rec.lock.Release(); err != nil {
		t.Fatal(err)
	}
	recordRun(t, dir, runID, fleet(8)).play(17, nil)
	recordLook(t, dir, look{})
	s := brief(t, dir)
	s.fleets = []*scheduled{prod(t)}
	plan := planFile(t, fleet(3))
	if w := post(s, "/api/v1/proposals", operatorSecret, plan); w.Code != http.StatusCreated {
		t.Fatalf("%d, %s", w.Code, w.Body)
	}
	digest := `{"digest": "` + digestOf(t, plan) + `"}`

	documented := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented[method+" "+path] = true
		}
	}
	page := regexp.MustCompile(`^(GET /(login|assets/|runs/|compliance$|proposals|\{\$\})|POST /(login|logout|runs/|proposals/))`)
	over := "20261127-000000-0001"
	for _, rt := range s.routes() {
		if page.MatchString(rt.pattern) {
			continue
		}
		if !documented[rt.pattern] {
			t.Errorf("%s is not in the document", rt.pattern)
		}
		delete(documented, rt.pattern)
		method, path := pathOf(rt.pattern)
		if open := doc.Paths.Find(strings.TrimPrefix(rt.pattern, method+" ")).GetOperation(method).Security; rt.open != (open != nil && len(*open) == 0) {
			t.Errorf("%s: who may ask is not as the document says", rt.pattern)
		}
		var asked []*http.Request
		for _, secret := range []string{viewerSecret, ""} {
			asked = append(asked, request(method, path, secret, nil))
		}
		for _, p := range []string{
			strings.ReplaceAll(path, runID, over), strings.ReplaceAll(path, runID, "20261127-010000-0002"), strings.ReplaceAll(path, runID, "none"),
			path + "?limit=2", path + "?limit=x", path + "?state=lost", path + "?state=x", path + "?after=3", path + "?before=" + runID, path + "?before=x",
		} {
			asked = append(asked, request(method, p, viewerSecret, nil))
		}
		if method == http.MethodPost {
			asked = asked[:2] // what follows has no query
			for _, body := range []string{`{"reason": "the storage is slow"}`, "", `{"reason": "two\nlines"}`, `{"raison": ""}`, "{", plan, `{"digest": "abc"}`, digest, digest} {
				for _, p := range []string{path, strings.ReplaceAll(path, runID, over), strings.ReplaceAll(path, runID, "none"), strings.ReplaceAll(path, "/1", "/99")} {
					for _, secret := range []string{operatorSecret, bothSecret} {
						asked = append(asked, request(method, p, secret, strings.NewReader(body)))
					}
				}
			}
		}
		if strings.HasSuffix(path, "/events") {
			stream := request(method, path, viewerSecret, nil)
			ended := request(method, strings.ReplaceAll(path, runID, over)+"?after=99999", viewerSecret, nil)
			for _, r := range []*http.Request{stream, ended} {
				r.Header.Set("Accept", "text/event-stream")
				asked = append(asked, r)
			}
		}
		for _, r := range asked {
			w := ask(s, r)
			plain := r.Clone(t.Context())
			plain.URL.Host, plain.URL.Scheme = "", ""
			found, params, err := router.FindRoute(plain)
			if err != nil {
				t.Fatalf("%s: %v", r.URL, err)
			}
			err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: plain, PathParams: params, Route: found},
				Status:                 w.Code, Header: w.Header(), Body: nopCloser{bytes.NewReader(w.Body.Bytes())},
				Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
			})
			if err != nil {
				t.Errorf("%s answers %d: %v\n%.300s", r.URL, w.Code, err, w.Body)
			}
		}
	}
	for left := range documented {
		t.Errorf("%s is in the document alone", left)
	}
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }
