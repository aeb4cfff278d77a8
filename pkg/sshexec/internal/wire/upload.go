package wire

// UploadScript runs on the node for a whole transfer: the SFTP server is its
// child, so that the same privileges write, check and rename, and so that its
// trap removes the temporary file when the transfer ends in any other way than
// by the rename, a cut connection included. A cut transfer looks like an end of
// file to the server; then the digest is wrong.
//
// openssl computes the digest of large files: some builds of sha256sum take three
// times as long.
//
// Its parameters are variables named fl_*; the digest to expect is fl_want. Status
// codes from 90 on are its own. mv stays in one directory, so it is rename(2).
const UploadScript = `umask 077
say() { echo "fleetd-$fl_nonce $*" >&2; }
if [ -d "$fl_target" ]; then exit 90; fi
if [ -n "$fl_mkdir" ] && [ ! -d "$fl_dir" ]; then (umask 022; mkdir -p -m "$fl_mkdir" "$fl_dir") || exit 91; fi
if [ ! -d "$fl_dir" ]; then exit 97; fi
if [ ! -w "$fl_dir" ]; then exit 98; fi
trap 'rm -f "$fl_temp"' 0
trap 'exit 99' 1 2 13 15
s=
for p in /usr/libexec/openssh/sftp-server /usr/lib/openssh/sftp-server /usr/lib/ssh/sftp-server /usr/libexec/sftp-server /usr/lib/sftp-server; do
  if [ -x "$p" ]; then s=$p; break; fi
done
if [ -n "$fl_plain" ]; then s=; fi
if [ -n "$s" ]; then say sftp; "$s"; else
  say cat
  cat >"$fl_temp" || exit 92
  sync
fi
if [ ! -f "$fl_temp" ]; then exit 92; fi
sum() { sha256sum 2>/dev/null <"$fl_temp"; }
ssl() { openssl dgst -sha256 -r 2>/dev/null <"$fl_temp"; }
if [ -n "$fl_large" ]; then h=$(ssl || sum); else h=$(sum || ssl); fi
if [ -z "$h" ]; then h=$(shasum -a 256 2>/dev/null <"$fl_temp"); fi
h=${h%% *}
say "digest ${h:-none}"
if [ -z "$h" ] || [ "$h" != "$fl_want" ]; then exit 93; fi
if [ -n "$fl_owner" ]; then chown "$fl_owner" "$fl_temp" || exit 94
elif [ -e "$fl_target" ]; then o=$(stat -c %u:%g "$fl_target" 2>/dev/null) && chown "$o" "$fl_temp" 2>/dev/null; fi
if [ -z "$fl_mode" ]; then fl_mode=$(stat -c %a "$fl_target" 2>/dev/null) || fl_mode=0644; fi
chmod "$fl_mode" "$fl_temp" || exit 95
mv -f "$fl_temp" "$fl_target" || exit 96
if command -v restorecon >/dev/null 2>&1; then restorecon "$fl_target" >/dev/null 2>&1; fi
exit 0`
