# shellcheck shell=bash
# The dispatchers: the jobquay binary, pointed at the other parts. The parts are called dispatcher, dispatcher2, ...
# dispatcher5, and each function below takes the name of one.

dispatchers=(dispatcher dispatcher2 dispatcher3 dispatcher4 dispatcher5)

port_of_dispatcher() {
  local number=${1#dispatcher}
  if [[ -z $number ]]; then echo "$base"; else echo "$((base + 10 + number))"; fi
}
for part in "${dispatchers[@]}"; do
  eval "
    ${part}_ports() { port_of_dispatcher $part; }
    ${part}_address() { echo 127.0.0.1:\$(port_of_dispatcher $part); }
    ${part}_start() { start_dispatcher $part; }
    ${part}_ready() { curl -fs --max-time 5 -o /dev/null http://127.0.0.1:\$(port_of_dispatcher $part)/readyz; }
    ${part}_then() { :; }"
done

# What it runs with. The addresses come from the env file, so that `stack start dispatcher` uses those of the last `up`.
dispatcher_settings() {
  local part=$1
  binary=$(realpath -m "${JOBQUAY_BIN:-$repository/target/debug/jobquay}")
  config=$(realpath -m "${CONFIG:-$here/jobquay.toml}")
  settings=(
    "JOBQUAY__AMQP__URL=$(value_in_env AMQP_URL)"
    "JOBQUAY__CACHE__URL=$(value_in_env REDIS_URL)"
    "KUBECONFIG=$(value_in_env KUBECONFIG)"
    "JOBQUAY__KUBERNETES__NAMESPACE=work"
    "JOBQUAY__INSTANCE=jobquay${part#dispatcher}"
    "JOBQUAY__HTTP__LISTEN=127.0.0.1:$(port_of_dispatcher "$part")"
    "JOBQUAY__TEMPLATES__DIR=$(realpath -m "${TEMPLATES:-$repository/examples/templates}")"
  )
}
value_in_env() { sed -n "s/^$1=//p" "$dir/env"; }

start_dispatcher() {
  local part=$1 binary config settings
  dispatcher_settings "$part"
  [[ -x $binary ]] || die "there is no dispatcher at $binary: cargo build --bin jobquay, or name one in JOBQUAY_BIN"
  [[ -r $config ]] || die "CONFIG=$config cannot be read"
  dispatcher_identity "$part" >"$dir/run/$part.identity"
  launch "$part" env "${settings[@]}" "$binary" serve --config "$config"
}

# The settings, the build of the program and its configuration: when one of them changes, an `up` means the new one.
dispatcher_identity() {
  local binary config settings
  dispatcher_settings "$1"
  { printf '%s\n' "${settings[@]}"; stat -L -c '%n %i %Y %s' "$binary"; cat "$config"; } 2>/dev/null | sha256sum
}
retire_outdated_dispatcher() {
  local part=$1
  runs "$part" && [[ $(dispatcher_identity "$part") != "$(<"$dir/run/$part.identity")" ]] || return 0
  end "$part" TERM
  report "$part" stopped "(its program or settings changed)"
}
# An `up` with fewer replicas than the last one.
retire_surplus_dispatchers() {
  local part
  for part in "${dispatchers[@]:$replicas}"; do
    ! runs "$part" || { end "$part" TERM; report "$part" stopped "(REPLICAS=$replicas)"; }
  done
}
