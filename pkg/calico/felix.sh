# What Felix does on this node now. It reads only. Env: proc, bpffs, sys, logs.
PATH=$PATH:/usr/sbin:/sbin
for d in "$proc"/[0-9]*; do
  # Thousands of processes may run: no program is started for each of them.
  read -r c <"$d/comm" || continue
  case $c in calico*) ;; *) continue ;; esac
  a=$(tr '\0' ' ' <"$d/cmdline") || continue
  case " $a" in
  *[\ /]"calico-node -felix "* | *[\ /]"calico-node felix "*)
    t=$(sed 's/.*) //' "$d/stat" | cut -d' ' -f20)
    echo "felix ${d##*/}@$t $(ls -l "$d/fd" | grep -c 'anon_inode:bpf-map$')" ;;
  esac
done 2>/dev/null
for f in "$bpffs"/tc/globals/cali_v[46]_nat_fe*; do
  [ ! -e "$f" ] || echo "pinned ${f##*/}"
done
for f in "$bpffs"/tcx/*_ingress; do
  i=${f##*/}
  case $i in cali*) ;; *) [ ! -e "$f" ] || echo "attached ${i%_ingress}" ;; esac
done
if command -v tc >/dev/null; then
  for f in "$sys"/class/net/*; do
    i=${f##*/}
    case $i in cali* | lo) continue ;; esac
    case $(tc filter show dev "$i" ingress 2>/dev/null) in
    *cali_tc_preambl* | *calico_from_*) echo "attached $i" ;;
    esac
  done
else
  echo notc
fi
f=$(ls -t "$logs"/*_calico-node-*/calico-node/*.log 2>/dev/null | head -n 1)
[ -z "$f" ] || grep -e 'Disabling BPF mode' -e 'BPF enabled, starting BPF endpoint manager' "$f" | tail -n 1 | sed 's/^/log /'
exit 0
