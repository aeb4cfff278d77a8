package sshexec

// BootIDFile is where Linux tells the ID of the boot, new at each.
const BootIDFile = "/proc/sys/kernel/random/boot_id"
