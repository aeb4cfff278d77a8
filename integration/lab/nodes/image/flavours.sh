# flavours.sh: what differs between the nodes' distributions; sourced with EL set.
UUID=5f1ee7d0-0000-4000-8000-0000000000e7       # of the root file system
BOOT_UUID=5f1ee7d0-0000-4000-8000-0000000000b0  # of /boot
# As in a cloned template, the same on every node. The first digit is a letter, because Debian's GRUB takes an
# entry's ID that starts with 5 for entry number 5; Red Hat's does not.
MACHINE_ID=f1ee7d00000040008000000000000e17
case $EL in
  el7) ID=centos NAME="CentOS Linux" VERSION="7 (Core)" VERSION_ID=7 RELEASE="CentOS Linux release 7.9.2009 (Core)" BLS=0;;
  el8) ID=rocky NAME="Rocky Linux" VERSION="8.10 (Green Obsidian)" VERSION_ID=8.10 RELEASE="Rocky Linux release 8.10 (Green Obsidian)" BLS=1;;
  el9) ID=rocky NAME="Rocky Linux" VERSION="9.6 (Blue Onyx)" VERSION_ID=9.6 RELEASE="Rocky Linux release 9.6 (Blue Onyx)" BLS=1;;
  *) echo "unknown flavour $EL: el7, el8 or el9" >&2; exit 1;;
esac
MAJOR=${EL#el}
