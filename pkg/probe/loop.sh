# Asks one way to a Service again and again, until its lease is over or another
# start has taken its place. Needs bash. Arguments: its number, protocol, address,
# port, URL, seconds between two questions, the token of its start.
n=$1 proto=$2 address=$3 port=$4 url=$5 interval=$6 token=$7
d=${0%/*}
trap '' PIPE # a connection that is cut while it is written to

# Milliseconds since the boot: no clock that anybody can set.
now() { read -r T _ </proc/uptime && T=$((10#${T/./} * 10)); }

# The address of kube-dns, asked of whoever serves names. It holds no newline, at
# which bash would cut a datagram in two. Any answer is one, also that there is none.
query='fd\1\0\0\1\0\0\0\0\0\0\10kube-dns\13kube-system\3svc\7cluster\5local\0\0\1\0\1'

connects() { timeout -s KILL 1 bash -c ': 3<>"/dev/tcp/$0/$1"' "$address" "$port"; }

# What comes first on the open connection, and the rest of it.
answers() {
  local first more
  read -r -t 2 -N 1 -u 4 first || return 1
  while read -r -t 0.1 -N 512 -u 4 more; do :; done
}

say() {
  case $proto in
  dns-open) printf "\\0\\70$query" >&4 ;;
  *) printf 'GET /%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: fleetd\r\n\r\n' "${path#/}" "$host" >&4 ;;
  esac && answers
}

# One connection that is kept. A server that ends it after a hundred questions has
# a limit of its own.
keeps() {
  if [ "$asked" -gt 0 ]; then
    say && { asked=$((asked + 1)); return 0; }
    exec 4>&-
    [ "$asked" -lt 100 ] && { asked=0; return 1; }
  fi
  asked=0
  connects && exec 4<>"/dev/tcp/$address/$port" && say && asked=1
}

fetches() {
  local out code ip
  case $proto in
  http-client)
    out=$(curl -gsk --noproxy '*' --connect-timeout 1 -m 2 --max-filesize 65536 -w ' %{local_ip} %{http_code}' "$url" | tr -d '\0' | tail -c 65536)
    code=${out##* } out=${out% *}
    ip=${out##* } out=${out% *}
    if [[ $out =~ (^|[^0-9a-fA-F:.])"${ip:-none}"($|[^0-9a-fA-F:.]|\.($|[^0-9])) ]]; then client=kept; else client=other; fi ;;
  *) code=$(curl -gsk -o /dev/null --noproxy '*' --connect-timeout 1 -m 2 -w '%{http_code}' "$url") ;;
  esac
  [ "${code:-0}" -ge 100 ] && [ "$code" -lt 500 ]
}

answered() {
  local x
  case $proto in
  dns-udp) { printf "$query" >&3 && read -r -t 1 -N 1 -u 3 x && [ "$x" = f ]; } 3<>"/dev/udp/$address/$port" ;;
  dns-tcp) timeout -s KILL 2 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "\\0\\70$2" >&3 && read -r -t 1 -N 1 -u 3' "$address" "$port" "$query" ;;
  tcp) connects ;;
  dns-open | http-open) keeps ;;
  *) fetches ;;
  esac
}

path=${url#*://} host=${path%%/*}
case $path in */*) path=/${path#*/} ;; *) path=/ ;; esac
base_ok=0 base_failed=0 marked='' ok=0 failed=0 longest=0 ended=0 bad=0 asked=0 client=unseen
now && last=$T
wanted() { read -r until mine _ <"$d/lease" && [ "$mine" = "$token" ] && now && [ "$T" -lt "$until" ]; }
while wanted; do
  if [ -z "$marked" ] && [ -e "$d/mark" ]; then
    marked=1 base_ok=$ok base_failed=$failed ok=0 failed=0 longest=0 ended=0
  fi
  if answered; then
    now
    if [ "$bad" -gt 0 ] && [ $((T - last)) -gt "$longest" ]; then longest=$((T - last)) ended=$T; fi
    ok=$((ok + 1)) bad=0 last=$T
  else
    failed=$((failed + 1)) bad=$((bad + 1))
  fi
  wanted || break # the folder may be another start's by now
  printf '%s\n' "$base_ok $base_failed $ok $failed $longest $ended $bad $last $T $client" >"$d/state.$n"
  # What did not answer before can show nothing, and need not cost the node anything.
  [ -z "$marked" ] || [ "$base_ok" -gt 0 ] || exit 0
  sleep "$interval"
done
