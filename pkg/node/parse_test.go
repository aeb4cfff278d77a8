package node

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the facts that were parsed into the fixtures; read the diff before you commit it")

// fixture returns the named file of a txtar archive.
func fixture(t testing.TB, archive *txtar.Archive, name string) []byte {
	t.Helper()
	for _, f := range archive.Files {
		if f.Name == name {
			return f.Data
		}
	}
	t.Fatalf("the fixture has no file %s", name)
	return nil
}

// TestParse holds the parser to one fixture for each distribution: a new
// distribution is a new file.
func TestParse(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			facts, err := Parse(fixture(t, archive, "output"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(facts, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			if *update {
				for i := range archive.Files {
					if archive.Files[i].Name == "facts.json" {
						archive.Files[i].Data = got
					}
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(fixture(t, archive, "facts.json")), string(got)); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
			// What goes through a plan file must come back the same.
			var again Facts
			if err := json.Unmarshal(got, &again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(facts, again); diff != "" {
				t.Errorf("facts after JSON (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefusesWhatIsNotWhole(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/centos-7.txtar")
	if err != nil {
		t.Fatal(err)
	}
	whole := string(fixture(t, archive, "output"))
	if _, err := Parse([]byte("Last login: today\nWelcome!\n" + whole)); err != nil {
		t.Errorf("a banner before the output: %v", err)
	}
	for name, output := range map[string]string{
		"empty":         "",
		"another shell": "bash: fleetd-facts: command not found\n",
		"no nonce":      "fleetd-facts 1 \n",
		"quoted":        "echo fleetd-facts 1 x\n",
		"no kernel":     strings.Replace(whole, "\n3.10.0-1160.80.1.el7.x86_64\n", "\n\n", 1),
	} {
		if f, err := Parse([]byte(output)); err == nil {
			t.Errorf("%s: no error, facts %+v", name, f)
		}
	}
	// However little is missing, half the facts are none: a plan made on them
	// would install what is there and trust a grubenv that nobody read.
	done := strings.LastIndex(whole, " done")
	for n := 0; n < done; n += 97 {
		if _, err := Parse([]byte(whole[:n])); err == nil {
			t.Fatalf("no error for the first %d of %d bytes", n, len(whole))
		}
	}
}

// TestParseIgnoresForgedMarkers: what a command prints can look like a marker,
// but it cannot know the nonce.
func TestParseIgnoresForgedMarkers(t *testing.T) {
	output := "fleetd-facts 1 N1\nN1 begin running\n6.1.4\n\nN1 end 0\nN1 begin boot-id\nb\n\nN1 end 0\n" +
		"N1 begin hostname\nN2 begin arch\nN2 end 0\nfleetd-facts 1 N3\n\nN1 end 0\nN1 done\n"
	f, err := Parse([]byte(output))
	if err != nil {
		t.Fatal(err)
	}
	if f.Arch != "" || f.Hostname != "N2 begin arch" {
		t.Errorf("a forged marker was taken: %+v", f)
	}
}

func TestEntryPrefersThePackagesOwn(t *testing.T) {
	const release = "6.1.4-1.el7.elrepo.x86_64"
	b := Boot{Entries: []BootEntry{
		{Index: 0, Kernel: "/boot/vmlinuz-" + release, Title: "broken init", Args: "init=/nonexistent"},
		{Index: 1, Kernel: "/boot/vmlinuz-" + release, Title: "CentOS Linux (" + release + ") 7 (Core)"},
		{Index: 2, Kernel: "/boot/vmlinuz-" + release + "+debug", Title: "debug"},
		{Index: 3, Kernel: "/boot/vmlinuz-6.2", Title: "fleetd trial of 6.2", Args: "ro fleetd.trial=x"},
	}}
	if e, ok := b.Entry("6.2"); ok {
		t.Errorf("Entry of a kernel that only has one on trial = %+v", e)
	}
	if e, ok := b.Entry(release); !ok || e.Index != 1 {
		t.Errorf("Entry = %+v, %v; want index 1", e, ok)
	}
	if e, ok := b.Entry("6.1.4"); ok {
		t.Errorf("Entry of a release that only begins alike = %+v", e)
	}
}

// TestParseAvailable: what yum 3 and dnf 4 say when there is nothing to list.
func TestParseAvailable(t *testing.T) {
	for _, c := range []struct {
		name, text string
		status     int
		why        string
		n          int
	}{
		{"wrapped lines", "Available Packages\nkernel-ml.x86_64\n                 6.1.4-1.el7.elrepo\n                                   elrepo-kernel\nkernel-ml-devel.x86_64 6.1.4-1.el7.elrepo elrepo-kernel\n", 0, "", 1},
		{"other repository", "Available Packages\nkernel-ml.x86_64 6.1.4-1.el7.elrepo site\n", 0, "", 0},
		{"epoch", "Available Packages\nkernel-ml.x86_64 0:6.1.4-1.el7.elrepo elrepo-kernel\n", 0, "", 1},
		{"yum 3, no such package", "Loaded plugins: fastestmirror\nError: No matching Packages to list\n", 1, "", 0},
		{"dnf 4, no such package", "Error: No matching Packages to list\n", 1, "", 0},
		{"yum 3, no such repository", "Loaded plugins: fastestmirror\n\n\nError getting repository data for elrepo-kernel, repository not found\n", 1, "Error getting repository data for elrepo-kernel, repository not found", 0},
		{"dnf 4, no such repository", "Error: Unknown repo: 'elrepo-kernel'\n", 1, "Error: Unknown repo: 'elrepo-kernel'", 0},
		{"yum 3, dead mirror", "http://m/repodata/repomd.xml: [Errno 14] curl#7 - \"Failed connect to m:80; Connection refused\"\nTrying other mirror.\n\nfailure: repodata/repomd.xml from elrepo-kernel: [Errno 256] No more mirrors to try.\n", 1, "failure: repodata/repomd.xml from elrepo-kernel: [Errno 256] No more mirrors to try.", 0},
		{"yum 3, locked", "Existing lock /var/run/yum.pid: another copy is running as pid 812.\nAnother app is currently holding the yum lock; waiting for it to exit...\n", 124, "Existing lock /var/run/yum.pid: another copy is running as pid 812.", 0},
		{"black hole", "", 124, "no answer within 150 s", 0},
		{"killed", "ELRepo 0% [ ] --- B/s | 0 B", 137, "no answer within 150 s", 0},
		{"silent", "", 1, "yum ended without a word", 0},
	} {
		packages, why := ParseAvailable(c.text, c.status, "kernel-ml", "elrepo-kernel")
		if why != c.why || len(packages) != c.n {
			t.Errorf("%s: %v, %q; want %d packages, %q", c.name, packages, why, c.n, c.why)
		}
	}
}

// TestWouldInstall: what yum 3 and dnf 4 say to an install that they are told not
// to do.
func TestWouldInstall(t *testing.T) {
	for _, c := range []struct {
		name, text string
		status     int
		why        string
	}{
		{"yum 3", "Dependencies Resolved\n\nInstalling:\n kernel-ml x86_64 6.1.4-1.el7.elrepo elrepo-kernel 57 M\n\nTransaction Summary\nInstall  1 Package\nExiting on user command\n", 1, ""},
		{"dnf 4", "Dependencies resolved.\nInstalling:\n kernel-ml x86_64 6.9.7-1.el8.elrepo elrepo-kernel 128 k\nTransaction Summary\nInstall  3 Packages\nOperation aborted.\n", 1, ""},
		{"there already", "Package kernel-ml-6.9.7-1.el8.elrepo.x86_64 is already installed.\nDependencies resolved.\nNothing to do.\nComplete!\n", 0, ""},
		{"yum 3, dead base", " One of the configured repositories failed (Unknown),\n\nCannot find a valid baseurl for repo: base/7/x86_64\n", 1, "Cannot find a valid baseurl for repo: base/7/x86_64"},
		{"dnf 4, dead base", "Errors during downloading metadata for repository 'baseos':\n  - Curl error (6): Couldn't resolve host name\nError: Failed to download metadata for repo 'baseos': Cannot prepare internal mirrorlist\n", 1, "Error: Failed to download metadata for repo 'baseos': Cannot prepare internal mirrorlist"},
		{"yum 3, dependency", "Error: Package: kernel-ml-6.1.4-1.el7.elrepo.x86_64 (elrepo-kernel)\n           Requires: linux-firmware >= 20190516\n You could try using --skip-broken\n", 1, "Requires: linux-firmware >= 20190516"},
		{"dnf 4, dependency", "Error: \n Problem: conflicting requests\n  - nothing provides linux-firmware >= 1 needed by kernel-ml-core\n", 1, "nothing provides linux-firmware >= 1 needed by kernel-ml-core"},
		{"no such package", "Error: Unable to find a match: kernel-ml-9\n", 1, "Error: Unable to find a match: kernel-ml-9"},
		{"hangs", "", 124, "no answer within 150 s"},
	} {
		if _, why := WouldInstall(c.text, c.status); why != c.why {
			t.Errorf("%s: %q, want %q", c.name, why, c.why)
		}
	}
}

// TestTransaction: the tables of yum 3 and dnf 4.
func TestTransaction(t *testing.T) {
	const rule = "================================================================================\n"
	change := func(action, name, evr, arch string) PackageChange {
		return PackageChange{Action: action, Package: Package{Name: name, EVR: evr, Arch: arch}}
	}
	for _, c := range []struct {
		name, text string
		want       []PackageChange
	}{
		{"yum 3", "Dependencies Resolved\n\n" + rule + " Package       Arch      Version                  Repository          Size\n" + rule +
			"Installing:\n kernel-ml     x86_64    6.9.7-1.el7.elrepo       elrepo-kernel       62 M\n" +
			"Removing:\n kernel        x86_64    3.10.0-957.el7           @anaconda           63 M\n" +
			"Updating for dependencies:\n linux-firmware\n               noarch    20200421-80.git78c0348.el7_9\n                                                  updates             80 M\n" +
			"     replacing  kernel-firmware.noarch 2.6.32-754.el6\n\nTransaction Summary\n" + rule + "Install  1 Package\n",
			[]PackageChange{
				change("install", "kernel-ml", "6.9.7-1.el7.elrepo", "x86_64"), change("remove", "kernel", "3.10.0-957.el7", "x86_64"),
				change("upgrade", "linux-firmware", "20200421-80.git78c0348.el7_9", "noarch"),
			}},
		{"dnf 4", "Last metadata expiration check: 0:00:01 ago on Mon Jan  6 10:00:00 2025.\nDependencies resolved.\n" + rule + " Package              Arch    Version              Repository      Size\n" + rule +
			"Installing:\n kernel-ml            x86_64  6.12.5-1.el9.elrepo  elrepo-kernel  158 k\nInstalling dependencies:\n kernel-ml-core       x86_64  6.12.5-1.el9.elrepo  elrepo-kernel   20 M\n" +
			"Downgrading:\n grub2-tools          x86_64  1:2.06-92.el9        baseos         1.8 M\nRemoving dependent packages:\n kmod-zfs             x86_64  2.2.7-1.el9          @zfs             0  \n kmod-drbd            x86_64  9.1-1.el9            @System          0  \n" +
			"Skipping packages with conflicts:\n(add '--best --allowerasing' to command line to force their upgrade):\n kernel-core          x86_64  5.14.0-1.el9         baseos          18 M\n\nTransaction Summary\n",
			[]PackageChange{
				change("downgrade", "grub2-tools", "1:2.06-92.el9", "x86_64"), change("install", "kernel-ml", "6.12.5-1.el9.elrepo", "x86_64"), change("install", "kernel-ml-core", "6.12.5-1.el9.elrepo", "x86_64"),
				change("remove", "kmod-drbd", "9.1-1.el9", "x86_64"), change("remove", "kmod-zfs", "2.2.7-1.el9", "x86_64"),
			}},
	} {
		got, why := WouldInstall(c.text, 1)
		if diff := cmp.Diff(c.want, got); diff != "" || why != "" {
			t.Errorf("%s (-want +got), %q:\n%s", c.name, why, diff)
		}
	}
}

// TestGPGCheck: a stanza that does not say takes [main]'s word, which every EL's
// own configuration has; without one either it is off.
func TestGPGCheck(t *testing.T) {
	for _, c := range []struct {
		main, stanza string
		want         bool
	}{
		{"[main]\ngpgcheck=1\n[main]\ngpgcheck=1", "enabled=0", true},
		{"[main]\ngpgcheck=1", "gpgcheck=0", false},
		{"[main]\ngpgcheck=0", "gpgcheck = yes", true},
		{"[main]\nkeepcache=0", "enabled=1", false},
		{"[main]\ngpgcheck=1\n[other]\ngpgcheck=0", "enabled=1", true},
	} {
		f, err := Parse([]byte("fleetd-facts 1 N\nN begin running\nx\n\nN end 0\nN begin boot-id\ny\n\nN end 0\nN begin yum-conf\n" + c.main +
			"\n\nN end 0\nN begin repo site\n" + c.stanza + "\n\nN end 0\nN done\n"))
		if err != nil || f.Repos["site"].GPGCheck != c.want {
			t.Errorf("%q, %q: %v, %v", c.main, c.stanza, f.Repos["site"].GPGCheck, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fixture(f, archive, "output"))
	}
	f.Add([]byte("fleetd-facts 1 a\na begin running\nx\na end 0\na begin boot-id\ny\na end 0\na done\n"))
	f.Fuzz(func(t *testing.T, output []byte) {
		facts, err := Parse(output)
		if err != nil {
			return
		}
		if facts.Running == "" || facts.BootID == "" {
			t.Error("facts without a running kernel or a boot_id")
		}
		raw, err := json.Marshal(facts)
		if err != nil {
			t.Fatalf("the facts have no JSON: %v", err)
		}
		for _, e := range facts.Boot.Entries {
			if e.Kernel == "" {
				t.Errorf("an entry that boots nothing: %s", raw)
			}
		}
		for _, m := range facts.Mounts {
			if m.Free < 0 || m.Size < 0 {
				t.Errorf("a negative size: %s", raw)
			}
		}
	})
}

func TestParseMachineID(t *testing.T) {
	const id = "8f1d2c9be0a74a1f9d3a6c0b7f5e4d21"
	for text, want := range map[string]string{
		"": "", "uninitialized\n": "", "uninitialized\n\n" + id + "\n": id, "\n" + id: id, id + "\n\n" + strings.Repeat("1", 32): id,
		strings.ToUpper(id): id, id[:31]: "", id + "0": "", strings.Repeat("0", 32): "", "cat: /etc/machine-id: Input/output error": "",
	} {
		if got := parseMachineID(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestGrubCfg: of several grub.cfg the one is found that GRUB reads.
func TestGrubCfg(t *testing.T) {
	full := func(file, dflt string) string {
		return file + ":   set default=\"${next_entry}\"\n" + file + ":   save_env next_entry\n" + file + ":\tset default=" + dflt + "\n"
	}
	const centos, rocky = "/boot/efi/EFI/centos/grub.cfg", "/boot/efi/EFI/rocky/grub.cfg"
	leads := rocky + ":configfile $prefix/grub.cfg\n"
	for _, c := range []struct {
		name, text string
		want       GrubCfg
	}{
		{"none", "", GrubCfg{}},
		{"BIOS", full(mainGrubCfg, `"${saved_entry}"`), GrubCfg{Path: mainGrubCfg, Default: SavedEntry, Next: true}},
		{"a fixed default", full(mainGrubCfg, "0"), GrubCfg{Path: mainGrubCfg, Default: "0", Next: true}},
		{"next_entry is not cleared", mainGrubCfg + ":set default=\"${next_entry}\"\n" + mainGrubCfg + ":set default=\"${saved_entry}\"", GrubCfg{Path: mainGrubCfg, Default: SavedEntry}},
		{"a boot that is counted", full(mainGrubCfg, `"${saved_entry}"`) + mainGrubCfg + ":    set default=1", GrubCfg{Path: mainGrubCfg, Default: SavedEntry, Next: true}},
		{"a submenu", full(mainGrubCfg, `"${saved_entry}"`) + mainGrubCfg + ":submenu 'Advanced options' {", GrubCfg{Path: mainGrubCfg, Default: SavedEntry, Next: true, Submenus: true}},
		{"EL8 on EFI, and a grub.cfg that nobody reads", "\\EFI\\rocky\n" + full(rocky, "0") + full(mainGrubCfg, `"${saved_entry}"`), GrubCfg{Path: rocky, Default: "0", Next: true}},
		{"EL9 on EFI", "\\EFI\\rocky\n" + leads + full(mainGrubCfg, `"${saved_entry}"`), GrubCfg{Path: mainGrubCfg, Default: SavedEntry, Next: true}},
		{"EL9 on EFI, led nowhere", "\\EFI\\rocky\n" + leads, GrubCfg{}},
		{"moved from CentOS to Rocky", "\\EFI\\ROCKY\n" + full(centos, "0") + full(rocky, `"${saved_entry}"`), GrubCfg{Path: rocky, Default: SavedEntry, Next: true}},
		{"two, and the firmware tells nothing", full(centos, "0") + full(rocky, `"${saved_entry}"`), GrubCfg{}},
		{"two, and a third was started", "\\EFI\\BOOT\n" + full(centos, "0") + full(rocky, `"${saved_entry}"`), GrubCfg{}},
	} {
		if diff := cmp.Diff(c.want, parseGrubCfg(c.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
