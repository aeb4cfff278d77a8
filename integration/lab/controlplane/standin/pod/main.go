// A STAND-IN for the programs of pods that are no part of what fleetd changes: the
// pause container, coredns and the lab's own workloads.
//
//	pod          runs until it is told to end, whatever its name and arguments
//	pod web      answers HTTP on port 8080 with its pod's name and the client's address
//	pod get URL  asks, and prints the answer: what a probe or an exec can run
//	pod health ADDRESS
//	             answers HTTP with a yes: what Calico's typha says of itself
//	install, check-status
//	             under these names it says yes by its exit status: Calico's CNI
//	             installer, which installs nothing, and its controllers' probe
//
// It shows that a kubelet starts, probes and ends containers, and that a packet
// reaches one. No name is resolved and no work is done.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	var err error
	switch args, name := os.Args[1:], filepath.Base(os.Args[0]); {
	case name == "install" || name == "check-status":
	case len(args) == 1 && args[0] == "web":
		err = web()
	case len(args) == 2 && args[0] == "get":
		err = get(args[1])
	case len(args) == 2 && args[0] == "health":
		err = http.ListenAndServe(args[1], http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	default:
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
		<-end
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func web() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		fmt.Println("ends on", <-end)
		os.Exit(0)
	}()
	fmt.Println("listens on :8080")
	return http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, name, "answers", r.RemoteAddr)
	}))
}

func get(url string) error {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
