// Package bench measures sshexec; it holds nothing but benchmarks.
//
//	go test -run - -bench . ./pkg/sshexec/bench
//
// BenchmarkFleet runs "uname -rv" on 50 and 200 loopback hosts of one real
// sshd with everything that is installed of: a bare x/crypto/ssh loop that
// dials and runs, sshexec's Pool, fleetd exec (built from this tree, or
// FLEETD=path of a binary; stripped, as make build does; also with the ssh_config of
// EL9, which has "Match final"), ansible -m raw and -m
// shell, pdsh, clush and parallel-ssh (apt-get install ansible-core pdsh
// clustershell pssh). Every tool logs in with the same key, checks the same
// known_hosts file, and works on 64 hosts at a time. They take turns; those that
// a limit speaks of run several times. Each is a process of its own, so its start
// counts; its processor time is that of the process and all its children, the
// node's that of sshd's. It needs root, for a network namespace in which sshd may
// listen on all of 127.0.0.0/8. A table after each number of hosts compares them
// with the bare loop and with fleetd exec, and says which limits hold; a tool
// that is not installed is named and left out. FLEETD_BENCH_HOSTS="3" takes other
// numbers of hosts, FLEETD_BENCH_TOOLS="bare-loop fleetd-exec" some of the tools,
// for a quick look.
//
// BenchmarkPlaybook runs a playbook of 20 commands on 20 and 50 such hosts with
// fleetd apply and with ansible-playbook, turn by turn.
//
// BenchmarkConnections opens 1,000 connections to in-process servers of another
// process and tells the memory that each costs. BenchmarkCPUPerHost tells the
// client's processor time per host from 100 to 5,000 of them. BenchmarkUpload
// compares uploads of 100 MB with those of OpenSSH's sftp, turn by turn.
// BenchmarkFlood has a node print 10 GB, and tells the memory that this costs;
// OpenSSH's ssh, which keeps nothing, takes them, too.
package bench
