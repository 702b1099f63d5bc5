# shellcheck shell=bash
# Processes: start them detached, know them again, end them by pid.
#
# A pid file holds "PID START", START being the process's start time: a pid alone may belong to another program by
# now. Beside that every process carries JOBQUAY_STACK=<our folder> in its environment, and its children inherit it,
# so that what was lost (a deleted pid file, an orphaned shim) is still found, and nothing else ever is.

# Prints the start time of a live process. A zombie is not one, unless threads of it still hold its files and ports.
start_time() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  stat=${stat##*) }   # the program's name before this may hold blanks
  # shellcheck disable=SC2086
  set -- $stat
  [[ $1 != [ZX] || ${18} -gt 1 ]] && echo "${20}"
}

pid_of() {
  local pid started
  { read -r pid started <"$dir/run/$1.pid"; } 2>/dev/null || return 1
  [[ $pid =~ ^[0-9]+$ && -n $started && $(start_time "$pid") == "$started" ]] && echo "$pid"
}
runs() { pid_of "$1" >/dev/null; }

launch() {
  local name=$1
  shift
  # 9 is our lock: a process that inherited it would hold it for ever.
  JOBQUAY_STACK=$dir setsid "$@" </dev/null >>"$dir/log/$name.log" 2>&1 9>&- &
  echo "$! $(start_time $!)" >"$dir/run/$name.pid"
}

end() {
  local name=$1 signal=$2 pid deadline=$((SECONDS + 20))
  if pid=$(pid_of "$name"); then
    kill -s "$signal" "$pid" 2>/dev/null || true
    while runs "$name"; do
      if ((SECONDS >= deadline)); then
        echo "stack: $name ignores SIG$signal for 20 s: SIGKILL" >&2
        kill -s KILL "$pid" 2>/dev/null || true
        deadline=$((SECONDS + 20))
      fi
      sleep 0.05
    done
  fi
  rm -f "$dir/run/$name.pid"
}

marked_pids() {
  grep -lzxF -- "JOBQUAY_STACK=$dir" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || true
}

# Ends every process of this stack and removes what it kept: data, mounts, network namespaces, control groups.
# Certificates (a KUBECONFIG that was handed out stays valid), the logs and the lock remain.
clear_stack() {
  local pid pids deadline=$((SECONDS + 20))
  # The kubelet and containerd first, or they would start again what is being ended.
  for name in kubelet containerd; do ! runs $name || end $name KILL; done
  while pids=$(marked_pids; node_pids) && [[ -n $pids ]]; do
    for pid in $pids; do kill -s KILL "$pid" 2>/dev/null || true; done
    ((SECONDS < deadline)) || die "these processes survive SIGKILL: ${pids//$'\n'/ }"
    sleep 0.05
  done
  clear_node
  rm -rf "$dir/run" "$dir/log.last" "$dir/rabbitmq" "$dir/redis" "$dir/etcd" "$dir/containerd" "$dir/kubelet" "$dir/cni"
  [[ ! -d $dir/log ]] || mv "$dir/log" "$dir/log.last"
}

check_ports() {
  local part port holder
  for part in "$@"; do
    runs "$part" && continue
    for port in $("${part}_ports"); do
      listens "$port" || continue
      holder=$(ss -Hltnp "sport = :$port" 2>/dev/null | grep -o 'users:.*' | head -n 1 || true)
      die "port $port, wanted for $part, is taken${holder:+ by $holder}" "end that program, or take other ports: STACK_PORTS=$((base + 1000))"
    done
  done
}
listens() { (exec 8<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
