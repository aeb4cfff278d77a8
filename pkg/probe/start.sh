# Starts to ask for Services from this machine, once a start: what an earlier one
# has left ends by itself. Env: dir, loop, paths, interval (s), lease (ms).
d=${dir:-${XDG_RUNTIME_DIR:-${HOME:?}/.cache}/fleetd-probe}
for need in bash curl timeout setsid; do
  command -v $need >/dev/null || { echo "missing $need"; exit 0; }
done
umask 077
rm -rf "$d" 2>/dev/null || { sleep 1; rm -rf "$d"; } # while it is written to
{ mkdir -p "$d" && printf '%s' "$loop" >"$d/loop.sh" && printf '%s' "${paths:+$paths
}" >"$d/paths"; } || exit 1
read -r up _ </proc/uptime
up=${up%.*}${up#*.}
token=$$.$up
echo "$((up * 10 + lease)) $token $interval" >"$d/lease" || exit 1
n=0
while read -r kind proto address port url name; do
  setsid bash "$d/loop.sh" "$n" "$proto" "$address" "$port" "$url" "$interval" "$token" </dev/null >/dev/null 2>&1 &
  n=$((n + 1))
done <"$d/paths"
echo "started $n"
