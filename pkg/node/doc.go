// Package node knows what an EL node is and how to talk to it.
//
// [Facts] is the value: distribution, kernels installed and running, boot
// entries, file systems, drivers, interfaces. One script in POSIX shell, run
// as root, gathers all of it in one SSH round trip ([Observer]); [Parse] turns
// its output into Facts and touches nothing. The script only reads: even the
// metadata of a repository that it asks for goes to a temporary folder that it
// removes.
//
// [Remote] is how modules reach a node by its inventory name; [Fleet]
// implements it on an sshexec.Pool and notes every command in the journal.
package node
