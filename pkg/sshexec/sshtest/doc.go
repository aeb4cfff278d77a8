// Package sshtest is an SSH and SFTP server for tests, in the test's own
// process: real handshakes, keys, channels and file transfers on a loopback
// port, without sshd, root or a virtual machine.
//
//	srv := sshtest.New(t, sshtest.Handler(func(r *sshtest.Request) sshtest.Response {
//		switch r.Command {
//		case "uname -r":
//			return sshtest.Response{Stdout: "6.1.4-1.el7.elrepo.x86_64\n"}
//		case "systemctl reboot":
//			r.Server.Reboot(sshtest.Down{Refuse: 3})
//			return sshtest.Response{}
//		}
//		return r.Shell() // a real /bin/sh
//	}))
//	pool.Run(ctx, srv.Target("web1"), sshexec.Command{Argv: []string{"uname", "-r"}})
//
// Without a handler every command is run by a real /bin/sh in the server's
// directory. Handlers see what the caller of sshexec wrote, not what travels:
// Argv or Script, Env, and the user that sudo or su was asked for, whose
// password the server checks itself (see [Sudo]).
//
// Files that are uploaded land under [Server.Root], whatever their absolute
// path, and owners are only remembered. [Server.ReadFile] reads them.
//
// The server can misbehave on purpose: see [Fault], [Server.Reboot],
// [Server.SetHostKey], [Server.DropConnections].
package sshtest
