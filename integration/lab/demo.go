package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fleetd/fleetd/integration/lab/fleet"
)

// program is where make build leaves fleetd.
const program = "bin/fleetd"

// demo shows the main job: two machines, the plan, the change, the plan again, and then
// the service, which looks at the fleet on a schedule.
func demo(ctx context.Context) error {
	f, err := start(ctx, 2)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"plan", f.Inventory},
		{"apply", f.Inventory, "--yes"},
		{"plan", f.Inventory},
		{"compliance", f.Inventory},
		{"runs"},
	} {
		fmt.Printf("\n$ fleetd %s\n", strings.ReplaceAll(strings.Join(args, " "), f.Inventory, filepath.Base(f.Inventory)))
		c := f.Command(ctx, program, args...)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		err := c.Run()
		var exit *exec.ExitError
		// plan ends with 2 when there are changes: that is what is shown here.
		if err != nil && !(args[0] == "plan" && errors.As(err, &exit) && exit.ExitCode() == 2) {
			return fmt.Errorf("fleetd %s: %w (the lab is still up; make lab-down stops it)", args[0], err)
		}
	}
	login, err := serve(ctx, f)
	if err != nil {
		return fmt.Errorf("%w (the lab is still up; make lab-down stops it)", err)
	}
	usage(f)
	fmt.Printf("\nThe runs, and the fleet held against its policies once a day, on a page until then:\n\n  %s\n", login)
	return nil
}

// serve starts fleetd serve for the fleet, waits until it has looked at the fleet as its
// schedule says, and returns the address by which a browser is let in. The socket is one
// of this machine, where the browser is; the fleet is in its network namespace.
func serve(ctx context.Context, f *fleet.Fleet) (login string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:8420")
	if err != nil { // somebody else has it
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return "", err
	}
	defer socket.Close()
	bin, err := filepath.Abs(program)
	if err != nil {
		return "", err
	}
	fmt.Printf("\n$ fleetd serve token demo\n")
	var token, lines bytes.Buffer
	c := f.Command(ctx, bin, "serve", "token", "demo")
	c.Stdout, c.Stderr = &token, &lines
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("fleetd serve token: %w\n%s", err, &lines)
	}
	_, entry, _ := strings.Cut(lines.String(), "configuration:\n")
	secret := strings.TrimSpace(token.String())
	config := filepath.Join(f.Dir, "serve.yaml")
	text := fmt.Sprintf("state: %s\ntokens:\n%sfleets:\n  - {name: lab, inventory: %s, schedule: '@daily', time_zone: UTC}\n", f.StateDir(), entry, f.Inventory)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", err
	}
	fmt.Printf("$ fleetd serve --config %s\n", filepath.Base(config))
	p, err := f.ControlPlane.Launch("fleetd-serve", socket, bin, "serve", "--config", config)
	if err != nil {
		return "", err
	}
	base := "http://" + l.Addr().String()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		looked, err := lookedAt(ctx, base, secret)
		switch {
		case looked:
			fmt.Println("It has looked at the fleet, as scheduled.")
			return base + "/login#" + secret, nil
		case ctx.Err() != nil || !p.Alive():
			log, _ := os.ReadFile(p.Log)
			return "", fmt.Errorf("fleetd serve has not looked at the fleet: %w\n%s", errors.Join(err, ctx.Err()), log)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// lookedAt reports whether the service has a report that its schedule asked for.
func lookedAt(ctx context.Context, base, secret string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/compliance", nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	var got struct {
		Fleets []struct {
			Name string
			Last *struct{}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return false, err
	}
	return len(got.Fleets) > 0 && got.Fleets[0].Name == "lab" && got.Fleets[0].Last != nil, nil
}
