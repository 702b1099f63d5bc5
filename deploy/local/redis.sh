# shellcheck shell=bash
# Redis, as the cache that it is to jobquay: nothing on disk, the least used keys go first.

redis_ports() { echo "$redis_port"; }
redis_address() { echo "127.0.0.1:$redis_port"; }

redis_start() {
  mkdir -p "$dir/redis"
  # A title would overwrite the environment by which process.sh knows a process. A stop saves, so that the next start
  # has the data; nothing else does.
  launch redis redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$dir/redis" --set-proc-title no \
    --save "" --appendonly no --shutdown-on-sigterm save --maxmemory 256mb --maxmemory-policy allkeys-lru
}

redis_ready() {
  local answer
  { exec 8<>"/dev/tcp/127.0.0.1/$redis_port"; } 2>/dev/null || return 1
  printf 'PING\r\n' >&8
  read -r -t 1 answer <&8 || true
  exec 8>&-
  [[ $answer == +PONG* ]]
}
# It was read: after a kill it would bring old values back.
redis_then() { rm -f "$dir/redis/dump.rdb"; }
