# Whether the API server answers at an address, with a certificate for it.
# Env: host, port, ca (PEM). Writes one temporary file.
command -v curl >/dev/null || { echo 'curl is not installed'; exit 0; }
t=$(mktemp) || exit 1
trap 'rm -f "$t"' EXIT
printf '%s\n' "$ca" >"$t"
case $host in *:*) host="[$host]" ;; esac
if e=$(curl -sS -o /dev/null --noproxy '*' --connect-timeout 5 --max-time 15 --cacert "$t" "https://$host:$port/version" 2>&1); then
  echo answers
else
  printf '%s\n' "$e" | head -n 1
fi
