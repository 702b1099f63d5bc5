# shellcheck shell=bash
# What the machine must have: root for a node, Debian packages, and what is made once below target/local: Kubernetes from
# its Go modules, the proxy that the tests of bad links go through, and RabbitMQ of another Debian suite.

kubernetes_version=v1.36.3
kubebox=$repository/target/local/kubebox

check_privilege() {
  if ((EUID != 0)) && [[ " $* " == *" kubelet "* || " $* " == *" containerd "* ]]; then
    die "a node (kubelet, containerd) needs root" "run it as root, or without a node: STACK_NODE=0, or with a cluster of yours: KUBECONFIG=FILE"
  fi
  if ((EUID != 0)) && [[ -n $(rabbitmq_suite) && " $* " == *" rabbitmq "* ]]; then
    die "RabbitMQ of another suite (RABBITMQ_SUITE) needs root"
  fi
}

check_given_files() {
  local file
  if given etcd; then
    for file in ${KUBECONFIG//:/ }; do [[ -r $file ]] || die "KUBECONFIG=$file cannot be read"; done
  fi
}

# Debian's names and, since a program may have come another way, a file of each.
packages_of() {
  case $1 in
    rabbitmq)
      if [[ -n $(rabbitmq_suite) ]]; then echo debootstrap=/usr/sbin/debootstrap; else echo rabbitmq-server=/usr/lib/rabbitmq/bin/rabbitmq-server; fi
      echo curl=/usr/bin/curl
      ;;
    redis) echo redis-server=/usr/bin/redis-server ;;
    etcd) echo openssl=/usr/bin/openssl curl=/usr/bin/curl ;;
    containerd) echo containerd=/usr/bin/containerd runc=/usr/sbin/runc containernetworking-plugins=/usr/lib/cni/ptp busybox-static=/bin/busybox ;;
    tests) echo faketime=/usr/bin/faketime ;;
    dispatcher*) echo curl=/usr/bin/curl ;;
  esac
}

install_packages() {
  local part package missing=()
  for part in "$@"; do
    for package in $(packages_of "$part"); do
      [[ -e ${package#*=} || " ${missing[*]} " == *" ${package%%=*} "* ]] || missing+=("${package%%=*}")
    done
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "missing: ${missing[*]} (Debian's names); install them, there is no apt-get here"
  ((EUID == 0)) || die "missing: ${missing[*]}" "install them: apt-get install ${missing[*]}"
  echo "installing ${missing[*]}"
  {
    apt_install "${missing[@]}" || { apt-get update -q && apt_install "${missing[@]}"; }
  } >"$dir/apt.log" 2>&1 9>&- ||
    die "apt-get could not install ${missing[*]}; see $dir/apt.log"
}

apt_install() (
  # Debian starts a server as soon as it is installed. Ours are private ones: the machine gets no other.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
)

# The tests of bad links go through it.
build_toxiproxy() {
  local folder=$repository/target/local/toxiproxy
  [[ -x $folder/server ]] || GOBIN=$folder go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0 ||
    die "Toxiproxy could not be built: go's message is above"
}

suite_root() { echo "$repository/target/local/debian-$1"; }

# RabbitMQ of another Debian suite, with what it needs and nothing else.
install_suite() {
  local suite root mirror log=$dir/debootstrap.log
  suite=$(rabbitmq_suite)
  [[ -n $suite && " $* " == *" rabbitmq "* ]] || return 0
  root=$(suite_root "$suite")
  (
    mkdir -p "${root%/*}"
    exec 7>"$root.lock"
    flock 7   # two stacks may start at once
    [[ ! -d $root ]] || exit 0
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian //p' | head -n 1)
    [[ -n $mirror ]] || die "apt's configuration names no mirror of Debian to take $suite from"
    echo "installing RabbitMQ of Debian $suite: a minute, once"
    rm -rf --one-file-system "$root.new"
    # In a mount namespace of its own: what it mounts is gone with it.
    unshare --mount debootstrap --variant=minbase --include=rabbitmq-server "$suite" "$root.new" "$mirror" >"$log" 2>&1 9>&- ||
      die "debootstrap could not install $suite; see $log"
    touch "$root.new/etc/hosts"   # this machine's is mounted there
    mv "$root.new" "$root"
  ) || exit 1
}

kubebox_is_current() { [[ -x $kubebox && -r $kubebox.sources && $(<"$kubebox.sources") == "$sources" ]]; }

build_kubebox() {
  local part sources
  for part in "$@"; do
    case $part in etcd | apiserver | controllers | scheduler | kubelet | containerd) ;; *) continue ;; esac
    sources=$(cat "$here"/kubebox/*.go "$here"/kubebox/go.* | sha256sum | cut -d' ' -f1)-$kubernetes_version
    ! kubebox_is_current || return 0
    (
      mkdir -p "${kubebox%/*}"
      exec 7>"$kubebox.lock"
      flock 7   # two stacks may start at once
      ! kubebox_is_current || exit 0
      command -v go >/dev/null || die "go is not on the PATH; it builds Kubernetes once: install Go 1.26 or later, or use a cluster of yours: KUBECONFIG=FILE"
      echo "building Kubernetes $kubernetes_version from its Go modules: some minutes, once"
      # Without the stamp clients refuse to parse the server's version.
      x=k8s.io/component-base/version v=${kubernetes_version#v}
      minor=${v#*.}
      CGO_ENABLED=0 go -C "$here/kubebox" build -trimpath -buildvcs=false \
        -ldflags "-s -w -X $x.gitVersion=v$v -X $x.gitMajor=${v%%.*} -X $x.gitMinor=${minor%%.*}" \
        -o "$kubebox.new" . || die "Kubernetes could not be built: go's message is above"
      mv "$kubebox.new" "$kubebox"
      echo "$sources" >"$kubebox.sources"
    ) || exit 1
    return
  done
}
