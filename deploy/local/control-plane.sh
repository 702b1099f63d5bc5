# shellcheck shell=bash
# The control plane: etcd, API server, controller manager and scheduler, and the certificates that they trust.

etcd_ports() { echo "$etcd_port" "$etcd_peer_port"; }
etcd_address() { echo "127.0.0.1:$etcd_port"; }
etcd_start() {
  local client=http://127.0.0.1:$etcd_port peer=http://127.0.0.1:$etcd_peer_port
  # A cluster that is made anew each time need not survive a power cut.
  launch etcd "$kubebox" etcd --name "$id" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$id=$peer"
}
etcd_ready() { curl -fs -o /dev/null "http://127.0.0.1:$etcd_port/readyz"; }
etcd_then() { :; }

apiserver_ports() { echo "$apiserver_port"; }
apiserver_address() { echo "127.0.0.1:$apiserver_port"; }
apiserver_start() {
  issue_certificates
  write_kubeconfigs
  # No endpoint of itself and no cluster IP: nothing in a pod talks to the API. Names of nodes, not addresses, lead to
  # the kubelet, because a kubelet takes no loopback address for its node's (node.sh).
  launch apiserver "$kubebox" apiserver --bind-address=127.0.0.1 --secure-port="$apiserver_port" --advertise-address=127.0.0.1 \
    --etcd-servers="http://127.0.0.1:$etcd_port" \
    --tls-cert-file="$dir/pki/apiserver.crt" --tls-private-key-file="$dir/pki/apiserver.key" --client-ca-file="$dir/pki/ca.crt" \
    --service-account-key-file="$dir/pki/sa.pub" --service-account-signing-key-file="$dir/pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc \
    --authorization-mode=Node,RBAC --allow-privileged=true \
    --endpoint-reconciler-type=none --service-cluster-ip-range=10.0.0.0/24 \
    --kubelet-client-certificate="$dir/pki/admin.crt" --kubelet-client-key="$dir/pki/admin.key" \
    --kubelet-certificate-authority="$dir/pki/ca.crt" --kubelet-preferred-address-types=Hostname \
    --shutdown-watch-termination-grace-period=1s
}
apiserver_ready() { api "$apiserver_port/readyz" >/dev/null; }
apiserver_then() { :; }

controllers_ports() { echo "$controllers_port"; }
controllers_address() { echo "127.0.0.1:$controllers_port"; }
controllers_start() {
  # The default 20 requests per second would be the slowest thing in any load test.
  launch controllers "$kubebox" controllers --bind-address=127.0.0.1 --secure-port="$controllers_port" --leader-elect=false \
    --kubeconfig="$dir/pki/controllers.kubeconfig" --authentication-kubeconfig="$dir/pki/controllers.kubeconfig" \
    --authorization-kubeconfig="$dir/pki/controllers.kubeconfig" \
    --root-ca-file="$dir/pki/ca.crt" --service-account-private-key-file="$dir/pki/sa.key" --use-service-account-credentials \
    --kube-api-qps=500 --kube-api-burst=1000 --concurrent-job-syncs=20
}
controllers_ready() { api "$controllers_port/healthz" >/dev/null; }
controllers_then() { prepare_namespace; }

scheduler_ports() { echo "$scheduler_port"; }
scheduler_address() { echo "127.0.0.1:$scheduler_port"; }
scheduler_start() {
  launch scheduler "$kubebox" scheduler --bind-address=127.0.0.1 --secure-port="$scheduler_port" --leader-elect=false \
    --kubeconfig="$dir/pki/scheduler.kubeconfig" --authentication-kubeconfig="$dir/pki/scheduler.kubeconfig" \
    --authorization-kubeconfig="$dir/pki/scheduler.kubeconfig" --kube-api-qps=500 --kube-api-burst=1000
}
scheduler_ready() { api "$scheduler_port/healthz" >/dev/null; }
scheduler_then() { :; }

# Reads PORT/PATH from a part of the cluster, as its administrator. Controllers and scheduler make a certificate of
# their own, hence no check of it here.
api() {
  curl -fsk --max-time 5 --cert "$dir/pki/admin.crt" --key "$dir/pki/admin.key" "https://127.0.0.1:$1" 2>/dev/null
}

# A person with a cluster of his own mostly has a kubectl, and should not wait for a build of ours.
kubectl_here() {
  local kubectl=("$kubebox" kubectl)
  [[ -x $kubebox ]] || kubectl=(kubectl)
  command -v "${kubectl[0]}" >/dev/null || die "there is no kubectl here, and no cluster was built yet: \`stack up\`"
  KUBECONFIG=${KUBECONFIG:-$own_kubeconfig} KUBECACHEDIR=$dir/run/kubectl "${kubectl[@]}" "$@"
}

# The namespace in which Jobs run, and the Secret that the examples mount. Pods start only once the namespace has
# its default service account.
prepare_namespace() {
  { kubectl_here apply --server-side --field-manager=jobquay-stack -f "$here/namespace.yaml" >>"$dir/log/namespace.log" 2>&1 &&
    kubectl_here -n work wait --for=create --timeout=30s serviceaccount/default >>"$dir/log/namespace.log" 2>&1; } ||
    die "the namespace work could not be made: $(tail -n 3 "$dir/log/namespace.log")"
}

# Made once: whoever holds a KUBECONFIG of ours can use it again after the next `up`.
issue_certificates() (
  [[ ! -d $dir/pki ]] || exit 0
  umask 077
  rm -rf "$dir/pki.new"
  mkdir "$dir/pki.new"
  cd "$dir/pki.new"
  key ca
  openssl req -x509 -new -key ca.key -subj "/CN=$id" -days 3650 -out ca.crt
  openssl genrsa -out sa.key 2048 2>/dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  certificate apiserver /CN=kube-apiserver IP:127.0.0.1,IP:10.0.0.1,DNS:localhost,DNS:kubernetes.default.svc
  certificate admin /O=system:masters/CN=admin DNS:admin
  certificate controllers /CN=system:kube-controller-manager DNS:controllers
  certificate scheduler /CN=system:kube-scheduler DNS:scheduler
  certificate kubelet /O=system:nodes/CN=system:node:localhost DNS:localhost,IP:127.0.0.1
  mv "$dir/pki.new" "$dir/pki"
)
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
certificate() {
  key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth' "$3") 2>/dev/null
}

# They hold their keys, so that one file is all that another program (or a container) needs.
write_kubeconfigs() {
  local who
  for who in controllers scheduler kubelet; do kubeconfig $who >"$dir/pki/$who.kubeconfig"; done
  (umask 077 && kubeconfig admin >"$own_kubeconfig")
}
kubeconfig() {
  cat <<YAML
apiVersion: v1
kind: Config
clusters: [{name: jobquay, cluster: {server: "https://127.0.0.1:$apiserver_port", certificate-authority-data: $(base64 -w0 "$dir/pki/ca.crt")}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$dir/pki/$1.crt"), client-key-data: $(base64 -w0 "$dir/pki/$1.key")}}]
contexts: [{name: jobquay, context: {cluster: jobquay, user: $1}}]
current-context: jobquay
YAML
}
