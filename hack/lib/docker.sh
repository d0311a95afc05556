# shellcheck shell=bash
# Docker: the one that runs, or on Debian as root a daemon of our own that goes when nobody holds it.

DOCKER_HOME="$ODOOAI_RUN/docker"
DOCKER_SOCKET="$DOCKER_HOME/docker.sock"

# Some machines have a client without the buildx plugin that newer clients ask for.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0

docker_answers() { timeout 20 docker info >/dev/null 2>&1; }

docker_own_pid() {
  local pid
  pid="$(cat "$DOCKER_HOME/dockerd.pid" 2>/dev/null)" || return 1
  [[ "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" == *dockerd*"$DOCKER_SOCKET"* ]] || return 1
  echo "$pid"
}

# docker_up HOLDER [PID]: makes DOCKER_HOST work and keeps our daemon, where it is ours, until
# docker_down HOLDER, or until PID is gone.
docker_up() {
  local lock
  mkdir -p "$DOCKER_HOME/holders"
  exec {lock}>"$DOCKER_HOME/lock"
  flock "$lock"
  if docker_own_pid >/dev/null; then
    export DOCKER_HOST="unix://$DOCKER_SOCKET"
  elif ! docker_answers; then
    is_debian_root || die "no Docker answers; please start it (or run as root on Debian, where this script starts its own)"
    docker_start_own {lock}>&-
    export DOCKER_HOST="unix://$DOCKER_SOCKET"
  fi
  if [[ -n ${DOCKER_HOST:-} && $DOCKER_HOST == "unix://$DOCKER_SOCKET" ]]; then
    echo "${2:-}" >"$DOCKER_HOME/holders/$1"
  fi
  exec {lock}>&-
}

docker_start_own() {
  local way mtu
  need_command dockerd docker.io
  # Apart from the daemon since Debian 13.
  need_command docker docker-cli
  need_command iptables iptables
  need_command ip iproute2
  # A bridge with a larger MTU than the way out loses big packets.
  way="$(ip route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -1)"
  mtu="$(ip -o link show dev "${way:-lo}" | sed -n 's/.* mtu \([0-9]*\).*/\1/p')"
  rm -f "$DOCKER_HOME/dockerd.pid"
  {
    cat /proc/sys/net/ipv4/ip_forward
    iptables -S FORWARD | sed -n 's/^-P FORWARD //p'
  } >"$DOCKER_HOME/before"
  setsid dockerd --data-root "$ODOOAI_CACHE/docker" --exec-root "$DOCKER_HOME/exec" \
    -H "unix://$DOCKER_SOCKET" --pidfile "$DOCKER_HOME/dockerd.pid" --ip 127.0.0.1 \
    --mtu "$((mtu > 1500 ? 1500 : mtu))" --log-level warn \
    >"$DOCKER_HOME/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 120); do
    DOCKER_HOST="unix://$DOCKER_SOCKET" docker_answers && return
    sleep 0.5
  done
  die "our Docker daemon did not start:
$(tail -20 "$DOCKER_HOME/dockerd.log")"
}

# The bridge, the rules and the cgroups outlive the daemon that made them.
docker_remove_traces() {
  local forward policy
  ip link delete docker0 2>/dev/null || true
  iptables-save | grep -v -e DOCKER -e docker0 | iptables-restore || true
  { read -r forward && read -r policy; } <"$DOCKER_HOME/before" || return 0
  iptables -P FORWARD "$policy"
  # Not writable inside a container.
  { echo "$forward" >/proc/sys/net/ipv4/ip_forward; } 2>/dev/null || true
  find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name docker -exec rmdir {} + 2>/dev/null || true
}

# docker_down HOLDER: stops our daemon when no other holder is left.
docker_down() {
  local lock holder pid
  mkdir -p "$DOCKER_HOME/holders"
  exec {lock}>"$DOCKER_HOME/lock"
  flock "$lock"
  rm -f "$DOCKER_HOME/holders/$1"
  for holder in "$DOCKER_HOME"/holders/*; do
    [[ -e $holder ]] || continue
    pid="$(cat "$holder")"
    [[ -n $pid && ! -d /proc/$pid ]] && { rm -f "$holder"; continue; }
    exec {lock}>&-
    return 0
  done
  if pid="$(docker_own_pid)"; then
    kill "$pid"
    for _ in $(seq 120); do
      [[ -d /proc/$pid ]] || break
      sleep 0.25
    done
    [[ ! -d /proc/$pid ]] || kill -9 "$pid"
    docker_remove_traces
  fi
  exec {lock}>&-
}
