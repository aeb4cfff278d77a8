package bpf

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestChooseProgram reads format files as kernels print them. The comment of
// each in testdata/format.txtar says which program fits.
func TestChooseProgram(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/format.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) == 0 {
		t.Fatal("no format in testdata/format.txtar")
	}
	for _, f := range archive.Files {
		name, want, ok := strings.Cut(f.Name, ": ")
		if !ok {
			t.Fatalf("file %q does not say what to expect", f.Name)
		}
		t.Run(name, func(t *testing.T) {
			got, err := chooseProgram(f.Data)
			if err != nil {
				got = "error " + err.Error()
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestParseFormat(t *testing.T) {
	got, err := parseFormat([]byte(`name: x
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;

	field:const void * skaddr;	offset:8;	size:8;	signed:0;
	field:__u8 saddr_v6[16];	offset:40;	size:16;	signed:0;
	field:__data_loc char[] name;	offset:56;	size:4;	signed:0;

print fmt: "field:int no;	offset:1;	size:4;"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]field{"common_type": {0, 2}, "skaddr": {8, 8}, "saddr_v6": {40, 16}, "name": {56, 4}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(field{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParseFormat(f *testing.F) {
	text, err := os.ReadFile("testdata/format.txtar")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, file := range txtar.Parse(text).Files {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		fields, err := parseFormat(text)
		if err != nil {
			return
		}
		if len(fields) == 0 {
			t.Fatal("no error and no field")
		}
		for name, at := range fields {
			if name == "" || at.offset < 0 || at.size < 0 {
				t.Fatalf("field %q at %+v", name, at)
			}
		}
	})
}
