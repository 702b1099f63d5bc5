# shellcheck shell=bash
# The node: containerd with images made here, and a kubelet.
#
# Everything that a node usually keeps in fixed places of the machine is moved into the stack's folder, and its pods
# live below a control group of its own, since a kubelet ends all pods that it finds and does not know. So nodes of
# several stacks run side by side, and one can be removed without a trace by its folder and control group alone.

containerd_ports() { :; }
containerd_address() { echo "unix socket"; }
containerd_start() {
  local home=$dir/containerd snapshotter=overlayfs block=$((base / 16))
  # An overlay cannot lie on an overlay, as in a container.
  [[ $(stat -f -c %T "$dir") != overlayfs ]] || snapshotter=native
  mkdir -p "$home" "$dir/cni"
  # restrict_oom_score_adj: runc dies otherwise where root lacks CAP_SYS_RESOURCE, as in a container.
  cat >"$home/config.toml" <<TOML
version = 2
root = "$home/root"
state = "$home/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$home/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.local/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "$home/runc"
TOML
  # Point to point: no bridge that could stay behind. 10.64.0.0/10 has a /22 for each block of 16 ports.
  cat >"$dir/cni/10-pods.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "$id", "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {
  "type": "host-local", "dataDir": "$dir/cni/leases", "routes": [{"dst": "0.0.0.0/0"}],
  "ranges": [[{"subnet": "10.$((64 + block / 64)).$((block % 64 * 4)).0/22"}]]}}]}
JSON
  launch containerd containerd --config "$home/config.toml"
}
containerd_ready() { containerd_ctl version; }
# No registry: pods get their images from here only, with imagePullPolicy IfNotPresent or Never.
containerd_then() {
  local archive=$dir/containerd/images.tar
  { "$kubebox" image "$archive" /bin/busybox registry.local/worker:1 "registry.local/pause:1=/bin/sleep 2147483647" &&
    containerd_ctl -n k8s.io images import "$archive"; } ||
    die "the images could not be made; is /bin/busybox the one of Debian's busybox-static?"
}
containerd_ctl() { ctr -a "$dir/containerd/containerd.sock" "$@" >/dev/null 2>&1; }

kubelet_ports() { echo "$kubelet_port"; }
kubelet_address() { echo "127.0.0.1:$kubelet_port"; }
kubelet_start() {
  local home=$dir/kubelet
  make_control_groups
  mkdir -p "$home"
  cat >"$home/config.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: $kubelet_port
readOnlyPort: 0
healthzPort: 0
containerRuntimeEndpoint: unix://$dir/containerd/containerd.sock
tlsCertFile: $dir/pki/kubelet.crt
tlsPrivateKeyFile: $dir/pki/kubelet.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/pki/ca.crt}}
authorization: {mode: Webhook}
podLogsDir: $home/logs
volumePluginDir: $home/volume-plugins
cgroupRoot: /$id
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
resolvConf: ""
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: 250
kubeAPIQPS: 500
kubeAPIBurst: 1000
YAML
  # The node's name is how the API server reaches its kubelet: "localhost" leads to the loopback address.
  launch kubelet "$kubebox" kubelet --config="$home/config.yaml" --kubeconfig="$dir/pki/kubelet.kubeconfig" \
    --hostname-override=localhost --root-dir="$home" --cert-dir="$home/pki"
}
kubelet_ready() {
  api "$kubelet_port/healthz" >/dev/null &&
    api "$apiserver_port/api/v1/nodes/localhost" | grep -A1 '"type": "Ready"' | grep -q '"True"'
}
kubelet_then() { :; }

control_groups() {
  local group
  for group in "/sys/fs/cgroup/$id" /sys/fs/cgroup/*/"$id"; do [[ ! -d $group ]] || echo "$group"; done
}

make_control_groups() {
  local hierarchy file
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    echo "+cpu +cpuset +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control ||
      die "the control group controllers cannot be delegated (in a container: start it with --cgroupns=host)"
    mkdir -p "/sys/fs/cgroup/$id"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [[ -e $hierarchy/tasks ]] || continue
    mkdir -p "$hierarchy/$id"
    for file in cpuset.cpus cpuset.mems; do
      [[ ! -e $hierarchy/$file ]] || cat "$hierarchy/$file" >"$hierarchy/$id/$file"
    done
  done
}

# The processes of all pods: those of containers that lost their shim can be found by nothing else.
node_pids() {
  control_groups | while read -r group; do find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true; done | sort -u
}

clear_node() {
  local mount group deadline=$((SECONDS + 10))
  # Three places of the machine that cannot be moved: shims' sockets, the network plugins' results, links to logs.
  {
    grep -hos '/run/.*' "$dir"/containerd/state/io.containerd.runtime.v2.task/*/*/address
    grep -lsF "$dir/containerd/" /var/lib/cni/results/*
    find /var/log/containers -lname "$dir/kubelet/*" 2>/dev/null
  } | xargs -r rm -f || true
  # Deepest first. A network namespace is a mount too, and takes its interfaces along.
  cut -d' ' -f2 /proc/mounts | grep -F "$dir/" | sort -r | while read -r mount; do
    [[ $mount != "$dir"/* ]] || umount -l "$mount" 2>/dev/null || true
  done || true
  for group in $(control_groups); do
    until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do
      ((SECONDS < deadline)) || { echo "stack: the control group $group is still busy" >&2; break; }
      sleep 0.1
    done
  done
}
