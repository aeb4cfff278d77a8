# mkkubernetes.sh: sourced by mkimage.sh. Makes the root file system $R a node of Kubernetes: containerd, a
# kubelet, and every container image, because a node has no registry.
#
# $programs holds kubelet, kube-proxy, pod and calico-node, static, and the file "images" with a line for each
# container image: REFERENCE PROGRAM [ARGUMENT]... All images are one layer: the programs, and the node's own iptables.
# containerd of the image itself imports them here: under emulation that would take minutes.
K=$G/kubernetes
install -m 755 "$programs/kubelet" "$R/usr/local/bin/kubelet"
install -m 755 "$K/cluster-network" "$lib/"
install -m 644 "$K/cluster-network.service" "$K/kubelet.service" "$R/etc/systemd/system/"
install -d "$R/etc/kubernetes" "$R/etc/containerd" "$R/var/lib/kubelet"
install -m 644 "$K/kubelet.yaml" "$R/etc/kubernetes/"; install -m 644 "$K/containerd.toml" "$R/etc/containerd/config.toml"
printf 'overlay\nbr_netfilter\n' > "$R/etc/modules-load.d/kubernetes.conf"
printf 'net.ipv4.ip_forward=1\nnet.bridge.bridge-nf-call-iptables=1\n' > "$R/etc/sysctl.d/99-kubernetes.conf"
chroot "$R" systemctl -q enable cluster-network kubelet containerd
rm -f "$R"/usr/bin/containerd-{stress,shim,shim-runc-v1}
(cd "$R/usr/lib/cni"; for f in *; do case $f in bridge|host-local|loopback) ;; *) rm "$f";; esac; done)

oci=$out/oci; rm -rf "$oci"; mkdir -p "$oci/archive"
layer=$oci/layer
mkdir -p "$layer"/{etc,tmp,run,proc,sys,dev,var/run,var/lib,opt/cni/bin,usr/sbin,usr/bin,usr/lib/x86_64-linux-gnu,usr/lib64,usr/local/bin}
for d in bin sbin lib lib64; do ln -s usr/$d "$layer/$d"; done
install -m 755 "$programs/kube-proxy" "$layer/usr/local/bin/"
install -m 755 "$programs/pod" "$programs/calico-node" "$layer/usr/bin/"
# Calico's installer of CNI plugins, the probe of its controllers, and the operator, which runs elsewhere.
ln -s /usr/bin/pod "$layer/opt/cni/bin/install"; ln -s pod "$layer/usr/bin/check-status"; ln -s pod "$layer/usr/bin/operator"
cp -a "$R/usr/lib/x86_64-linux-gnu/xtables" "$layer/usr/lib/x86_64-linux-gnu/"
for b in /usr/sbin/xtables-nft-multi /usr/sbin/conntrack /usr/bin/kmod /usr/bin/dash $(cd "$R"; printf '/%s\n' usr/lib/x86_64-linux-gnu/xtables/*.so); do
  cp -a "$R$b" "$layer$b"
  chroot "$R" ldd "$b" | grep -o '/[^ ]*' | while read -r f; do t=${f#/usr}; cp -aL "$R$f" "$layer/usr$t"; done
done
for n in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do ln -s xtables-nft-multi "$layer/usr/sbin/$n"; done
ln -s ../bin/kmod "$layer/usr/sbin/modprobe"; ln -s dash "$layer/usr/bin/sh"; echo root:x:0:0::/:/bin/sh > "$layer/etc/passwd"

# A Docker archive: the layer, a configuration for each image, a manifest of all.
sum() { sha256sum | cut -d' ' -f1; }
tar --owner=0 --group=0 --mtime=@0 --sort=name -C "$layer" -cf "$oci/layer.tar" .
diff=$(sum < "$oci/layer.tar"); gzip -1 -n < "$oci/layer.tar" > "$oci/archive/layer.tar.gz"
manifest=
while read -r ref entry; do
  printf '{"architecture":"amd64","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["%s"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}' \
    "${entry// /\",\"}" "$diff" > "$oci/config"
  name=$(sum < "$oci/config").json; mv "$oci/config" "$oci/archive/$name"
  manifest+=${manifest:+,}'{"Config":"'$name'","RepoTags":["'$ref'"],"Layers":["layer.tar.gz"]}'
done < "$programs/images"
echo "[$manifest]" > "$oci/archive/manifest.json"
mkdir "$R/oci"; tar -C "$oci/archive" -cf "$R/oci/images.tar" .
cat > "$R/oci/import" <<'X'
set -e
mount -t proc proc /proc; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp
containerd -c /etc/containerd/config.toml > /oci/log 2>&1 & p=$!
for _ in $(seq 600); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
ctr -n k8s.io images import /oci/images.tar
kill $p; wait $p || :
X
# Namespaces of its own: its mounts, and what it starts, end with it.
unshare --mount --pid --fork --net --propagation private chroot "$R" sh /oci/import || { tail -20 "$R/oci/log"; exit 1; }
rm -rf "$R/oci" "$oci"
