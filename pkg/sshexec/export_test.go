package sshexec

// WithoutSFTP has uploads go the way of a node that has no sftp-server.
func WithoutSFTP(o *Options) { o.noSFTP = "yes" }
