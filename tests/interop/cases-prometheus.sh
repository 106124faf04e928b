# Cases about Prometheus: the rules that we ship, and dashboards that show what there is. Sourced.
# shellcheck shell=bash

CASES+=(
  "prometheus-rules prometheus_rules"
  "prometheus-dashboards prometheus_dashboards"
)

readonly LOAD_S=25

# Finds Prometheus, or takes it out of Debian's package. Sets PROMETHEUS and PROMTOOL.
find_prometheus() {
  PROMETHEUS=$(command -v prometheus || true)
  PROMTOOL=$(command -v promtool || true)
  [[ -z $PROMETHEUS || -z $PROMTOOL ]] || return 0
  unpack prometheus
  PROMETHEUS=$UNPACKED/usr/bin/prometheus
  PROMTOOL=$UNPACKED/usr/bin/promtool
}

promtool_says() { "$PROMTOOL" "$@" || fail "promtool $1 $2 finds faults"; }

prom() { python3 "$HERE/prometheus.py" "$@" 2>"$CASE_DIR/prom.err" || fail "$(tail -n 1 "$CASE_DIR/prom.err")"; }

prometheus_rules() {
  local deploy=$HERE/../../deploy/prometheus
  find_prometheus
  promtool_says check rules "$deploy/alerts.yml"
  promtool_says check config "$deploy/prometheus.yml"
  promtool_says test rules "$deploy/alerts_test.yml"
}

# Sets PROMETHEUS_AT.
prometheus_start() {
  local port dir=$CASE_DIR/prometheus
  free_port port
  PROMETHEUS_AT=127.0.0.1:$port
  mkdir "$dir"
  cat >"$dir/prometheus.yml" <<CONF
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["$(realpath "$HERE/../../deploy/prometheus/alerts.yml")"]
scrape_configs:
  - job_name: barid
    static_configs: [{targets: ["127.0.0.1:$ADMIN_PORT"]}]
CONF
  start prometheus "$PROMETHEUS" --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" \
    --web.listen-address="$PROMETHEUS_AT"
  wait_for "a scrape" python3 "$HERE/prometheus.py" ready "$PROMETHEUS_AT"
}

# Destinations that take mail (with a provider's name, by TLS, or after a while: so that scrapes find some on its way),
# put it off, refuse it, do not prove what is demanded, or are not there; a load for all of them; then every line of both
# dashboards.
prometheus_dashboards() {
  local dns_port pf_port sender_port options
  find_prometheus
  free_port dns_port
  free_port pf_port
  free_port sender_port
  free_port DELIVERY_PORT
  { dkim_keys && cat <<'ZONE'; } >"$CASE_DIR/zone"
plain  MX  10 mx.big
*.many MX  10 mx.big
mx.big A   127.0.0.22
soft   A   127.0.0.23
slow   A   127.0.0.24
strict MX  10 mx.big
dead   A   127.0.0.21
ZONE
  nsd_start "$dns_port" interop.test <"$CASE_DIR/zone"
  sink_start sink "127.0.0.22:$DELIVERY_PORT"
  sink_start soft "127.0.0.23:$DELIVERY_PORT" -r RCPT
  sink_start slow "127.0.0.24:$DELIVERY_PORT" -w 2
  sink_start sender "127.0.0.1:$sender_port"
  make_certificate peer
  postfix_tls TLSv1.3
  postfix_start postfix "$pf_port" "${options[@]}"
  barid_start "[[client]]
name = \"alerts\"
class = \"transactional\"
networks = [\"127.0.0.2/32\"]
sender_domains = [\"sender.test\", \"interop.test\"]
[[client]]
name = \"letters\"
class = \"bulk\"
networks = [\"127.0.0.3/32\"]
sender_domains = [\"sender.test\", \"interop.test\"]
[dkim]
check_interval = \"1s\"
[dns]
servers = [\"127.0.0.1:$dns_port\"]
[[tls.certificates]]
chain = \"$CASE_DIR/peer.pem\"
key = \"$CASE_DIR/peer.key\"
[[tls.policies]]
domains = [\"strict.interop.test\"]
mode = \"require\"
[[provider]]
name = \"big\"
mx = [\"*.big.interop.test\"]
connections = 10
[delivery]
port = $DELIVERY_PORT
allow_loopback = true
retry = [\"5s\"]
idle_timeout = \"1s\"
$(route sender.test "$sender_port")
$(route pf.test "$pf_port")"
  "$BIN_DIR/barid" dkim import interop.test rsa "$CASE_DIR/rsa.pem" --config "$CASE_DIR/barid.toml" >/dev/null
  prometheus_start
  prom load "$BARID_PORT" "$LOAD_S"
  prom panels "$PROMETHEUS_AT" "127.0.0.1:$ADMIN_PORT" "$LOAD_S" "$HERE"/../../dashboards/*.json
  prom rules "$PROMETHEUS_AT"
}
