# shellcheck shell=bash
# RabbitMQ, as one private node with the management plugin, users and policies from ../rabbitmq/definitions.json.
#
# With RABBITMQ_SUITE it is the one of that Debian suite, whose root lies in target/local (packages.sh). It runs there with
# this machine's network and processes, in a mount namespace of its own: the mounts go with it.

# The data of one version is not another's: the suite stays until `down`.
rabbitmq_suite() { cat "$dir/rabbitmq/suite" 2>/dev/null || echo "${RABBITMQ_SUITE:-}"; }
check_rabbitmq_suite() {
  local suite
  suite=$(rabbitmq_suite)
  [[ -z ${RABBITMQ_SUITE+set} || $RABBITMQ_SUITE == "$suite" ]] ||
    die "the stack in $dir has RabbitMQ of ${suite:-this machine}, not of ${RABBITMQ_SUITE:-this machine}: \`stack down\` first"
}

# What stands before a command of RabbitMQ.
rabbitmq_prefix() {
  local suite root
  suite=$(rabbitmq_suite)
  prefix=()
  [[ -n $suite ]] || return 0
  root=$(suite_root "$suite")
  mkdir -p "$root$dir/rabbitmq"
  # shellcheck disable=SC2016
  prefix=(unshare --mount --propagation private sh -ec '
    root=$1 home=$2
    shift 2
    for path in "$home" /dev /proc /etc/hosts; do mount --rbind "$path" "$root$path"; done
    exec chroot "$root" "$@"' rabbitmq "$root" "$dir/rabbitmq")
}

rabbitmq_ports() {
  echo "$rabbitmq_port" "$management_port" "$distribution_port"
  runs epmd || echo "$epmd_port"
}
rabbitmq_address() { echo "127.0.0.1:$rabbitmq_port"; }

rabbitmq_start() {
  local home=$dir/rabbitmq prefix
  mkdir -p "$home"
  rabbitmq_suite >"$home/suite.new"
  mv "$home/suite.new" "$home/suite"
  rabbitmq_prefix
  cp "$here/../rabbitmq/definitions.json" "$home"
  echo '[rabbitmq_management].' >"$home/plugins"
  # A developer's disk is often nearly full, and a broker that blocks publishers for that looks like a bug of ours.
  cat >"$home/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$rabbitmq_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
load_definitions = $home/definitions.json
disk_free_limit.absolute = 50MB
max_message_size = 2097152
vm_memory_high_watermark.relative = 0.25
CONF
  # Our own port mapper: one that Erlang starts by itself would be shared, and would outlive the broker.
  runs epmd || launch epmd "${prefix[@]}" epmd -port "$epmd_port" -address 127.0.0.1
  until listens "$epmd_port"; do
    runs epmd || part_failed epmd "ended while starting"
    sleep 0.05
  done
  # RUNNING_UNDER_SYSTEMD makes the script become the broker instead of a parent of it: its pid is then the broker's.
  launch rabbitmq "${prefix[@]}" env \
    HOME="$home" \
    RUNNING_UNDER_SYSTEMD=true \
    ERL_EPMD_PORT="$epmd_port" \
    RABBITMQ_CONF_ENV_FILE="$home/none" \
    RABBITMQ_ADVANCED_CONFIG_FILE="$home/none" \
    RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" \
    RABBITMQ_CONFIG_FILES="$home/none" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$home/plugins" \
    RABBITMQ_NODENAME="$id@localhost" \
    RABBITMQ_DIST_PORT="$distribution_port" \
    RABBITMQ_MNESIA_BASE="$home" \
    RABBITMQ_LOGS=- \
    RABBITMQ_LOG_BASE="$home" \
    ERL_CRASH_DUMP_SECONDS=0 \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
    /usr/lib/rabbitmq/bin/rabbitmq-server
}

# Over HTTP: a rabbitmqctl takes two seconds to start.
rabbitmq_ready() {
  curl -fs -o /dev/null -u guest:guest "http://127.0.0.1:$management_port/api/health/checks/port-listener/$rabbitmq_port"
}
rabbitmq_then() { :; }

rabbitmqctl_here() {
  local prefix
  rabbitmq_prefix
  HOME=$dir/rabbitmq ERL_EPMD_PORT=$epmd_port exec "${prefix[@]}" /usr/lib/rabbitmq/bin/rabbitmqctl -q -n "$id@localhost" "$@"
}
