# The dispatcher: the jobquay binary, pointed at the other parts.

dispatcher_ports() { echo "$dispatcher_port"; }
dispatcher_address() { echo "127.0.0.1:$dispatcher_port"; }

# What it runs with. The addresses come from the env file, so that `stack start dispatcher` uses those of the last `up`.
dispatcher_command() {
  local AMQP_URL REDIS_URL KUBECONFIG
  AMQP_URL=$(value_in_env AMQP_URL) REDIS_URL=$(value_in_env REDIS_URL) KUBECONFIG=$(value_in_env KUBECONFIG)
  dispatcher=(env
    "JOBQUAY__AMQP__URL=$AMQP_URL"
    "JOBQUAY__CACHE__URL=$REDIS_URL"
    "KUBECONFIG=$KUBECONFIG"
    "JOBQUAY__KUBERNETES__NAMESPACE=work"
    "JOBQUAY__HTTP__LISTEN=127.0.0.1:$dispatcher_port"
    "JOBQUAY__TEMPLATES__DIR=$(realpath -m "${TEMPLATES:-$repository/examples/templates}")"
    "$(realpath -m "${JOBQUAY_BIN:-$repository/target/debug/jobquay}")" serve
    --config "$(realpath -m "${CONFIG:-$here/jobquay.toml}")")
}
value_in_env() { sed -n "s/^$1=//p" "$dir/env"; }

dispatcher_start() {
  local dispatcher binary
  dispatcher_command
  binary=${dispatcher[-3]}
  [[ -x $binary ]] || die "there is no dispatcher at $binary: cargo build --bin jobquay, or name one in JOBQUAY_BIN"
  launch dispatcher "${dispatcher[@]}"
  dispatcher_identity >"$dir/run/dispatcher.identity"
}
dispatcher_ready() { curl -fs --max-time 5 -o /dev/null "http://127.0.0.1:$dispatcher_port/readyz"; }
dispatcher_then() { :; }

# The command line, the build of the binary and the configuration: when one of them changes, an `up` means the new one.
dispatcher_identity() {
  local dispatcher
  dispatcher_command
  { printf '%s\n' "${dispatcher[@]}"; stat -L -c '%i %Y %s' "${dispatcher[-3]}"; cat "${dispatcher[-1]}"; } 2>/dev/null | sha256sum
}
retire_outdated_dispatcher() {
  runs dispatcher || return 0
  [[ $(dispatcher_identity) != "$(<"$dir/run/dispatcher.identity")" ]] || return 0
  end dispatcher TERM
  report dispatcher stopped "(its program or settings changed)"
}
