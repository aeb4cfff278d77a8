package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// systemdSocket is the socket that whoever started the program listens on for it
// (sd_listen_fds(3)); nil if there is none.
func systemdSocket() (net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if n := os.Getenv("LISTEN_FDS"); n != "1" {
		return nil, fmt.Errorf("%s sockets were handed over (LISTEN_FDS), and there is one to listen on: fleetd.socket has one ListenStream", n)
	}
	f := os.NewFile(3, "LISTEN_FD_3")
	defer f.Close() // the listener has its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on the socket that was handed over: %w", err)
	}
	if _, is := l.(*net.TCPListener); !is {
		return nil, fmt.Errorf("the socket that was handed over is of %s, not of TCP", l.Addr().Network())
	}
	return l, nil
}

// notifySystemd tells the systemd that started the program that it serves, or
// that it ends (sd_notify(3)). Without one it does nothing.
func notifySystemd(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' { // an abstract socket
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}
