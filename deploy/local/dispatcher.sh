# shellcheck shell=bash
# The dispatcher: the jobquay binary, pointed at the other parts.

dispatcher_ports() { echo "$dispatcher_port"; }
dispatcher_address() { echo "127.0.0.1:$dispatcher_port"; }

# What it runs with. The addresses come from the env file, so that `stack start dispatcher` uses those of the last `up`.
dispatcher_settings() {
  binary=$(realpath -m "${JOBQUAY_BIN:-$repository/target/debug/jobquay}")
  config=$(realpath -m "${CONFIG:-$here/jobquay.toml}")
  settings=(
    "JOBQUAY__AMQP__URL=$(value_in_env AMQP_URL)"
    "JOBQUAY__CACHE__URL=$(value_in_env REDIS_URL)"
    "KUBECONFIG=$(value_in_env KUBECONFIG)"
    "JOBQUAY__KUBERNETES__NAMESPACE=work"
    "JOBQUAY__HTTP__LISTEN=127.0.0.1:$dispatcher_port"
    "JOBQUAY__TEMPLATES__DIR=$(realpath -m "${TEMPLATES:-$repository/examples/templates}")"
  )
}
value_in_env() { sed -n "s/^$1=//p" "$dir/env"; }

dispatcher_start() {
  local binary config settings
  dispatcher_settings
  [[ -x $binary ]] || die "there is no dispatcher at $binary: cargo build --bin jobquay, or name one in JOBQUAY_BIN"
  [[ -r $config ]] || die "CONFIG=$config cannot be read"
  dispatcher_identity >"$dir/run/dispatcher.identity"
  launch dispatcher env "${settings[@]}" "$binary" serve --config "$config"
}
dispatcher_ready() { curl -fs --max-time 5 -o /dev/null "http://127.0.0.1:$dispatcher_port/readyz"; }
dispatcher_then() { :; }

# The settings, the build of the program and its configuration: when one of them changes, an `up` means the new one.
dispatcher_identity() {
  local binary config settings
  dispatcher_settings
  { printf '%s\n' "${settings[@]}"; stat -L -c '%n %i %Y %s' "$binary"; cat "$config"; } 2>/dev/null | sha256sum
}
retire_outdated_dispatcher() {
  runs dispatcher && [[ $(dispatcher_identity) != "$(<"$dir/run/dispatcher.identity")" ]] || return 0
  end dispatcher TERM
  report dispatcher stopped "(its program or settings changed)"
}
