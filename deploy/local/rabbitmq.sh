# shellcheck shell=bash
# RabbitMQ, as one private node with the management plugin, users and policies from ../rabbitmq/definitions.json.

rabbitmq_ports() {
  echo "$rabbitmq_port" "$management_port" "$distribution_port"
  runs epmd || echo "$epmd_port"
}
rabbitmq_address() { echo "127.0.0.1:$rabbitmq_port"; }

rabbitmq_start() {
  local home=$dir/rabbitmq
  mkdir -p "$home"
  echo '[rabbitmq_management].' >"$home/plugins"
  # A developer's disk is often nearly full, and a broker that blocks publishers for that looks like a bug of ours.
  cat >"$home/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$rabbitmq_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
load_definitions = $here/../rabbitmq/definitions.json
disk_free_limit.absolute = 50MB
max_message_size = 2097152
vm_memory_high_watermark.relative = 0.25
CONF
  # Our own port mapper: one that Erlang starts by itself would be shared, and would outlive the broker.
  runs epmd || launch epmd epmd -port "$epmd_port" -address 127.0.0.1
  until listens "$epmd_port"; do
    runs epmd || part_failed epmd "ended while starting"
    sleep 0.05
  done
  # RUNNING_UNDER_SYSTEMD makes the script become the broker instead of a parent of it: its pid is then the broker's.
  launch rabbitmq env \
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
  HOME=$dir/rabbitmq ERL_EPMD_PORT=$epmd_port exec /usr/lib/rabbitmq/bin/rabbitmqctl -q -n "$id@localhost" "$@"
}
