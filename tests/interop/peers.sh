# Barid and its peers: started, stopped, asked. Sourced.
# shellcheck shell=bash

# what is needed, and which package has it
readonly PEERS=(
  curl=curl
  haproxy=haproxy
  msmtp=msmtp
  node=nodejs
  npm=npm
  nsd=nsd
  opendkim=opendkim
  openssl=openssl
  postfix=postfix
  postgrey=postgrey
  python3=python3
  smtp-sink=postfix
  smtp-source=postfix
  swaks=swaks
)
# of swaks for TLS, Python's for DKIM, and of Exim and OpenSMTPD, which are not installed themselves
readonly LIBRARIES=(libnet-ssleay-perl libdb5.3 libevent-2.1-7 libgnutls-dane0 libidn12 libnsl2 libpcre2-8-0
  python3-dkim python3-nacl)
# what smtp-sink, Postfix's mailboxes and postgrey run as
readonly PEER_USER=nobody

BARID_PID=
BARID_PORT=
ADMIN_PORT=

install_peers() {
  local peer packages
  PATH=$PATH:/usr/sbin:/sbin
  packages=$(missing_packages)
  if [[ -n $packages ]]; then
    printf 'interop: installing %s\n' "${packages//$'\n'/ }" >&2
    apt_get update || die "apt-get update failed"
    # shellcheck disable=SC2086 # they are words
    apt_get install -y --no-install-recommends $packages || die "apt-get install failed"
  fi
  for peer in "${PEERS[@]}"; do
    command -v "${peer%=*}" >/dev/null || die "${peer%=*} is missing"
  done
}

missing_packages() {
  local peer library
  {
    for peer in "${PEERS[@]}"; do
      command -v "${peer%=*}" >/dev/null || echo "${peer#*=}"
    done
    for library in "${LIBRARIES[@]}"; do
      [[ $(dpkg-query -W -f '${Status}' "$library" 2>/dev/null) == *" installed" ]] || echo "$library"
    done
  } | sort -u
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q "$@" >>"$WORK/apt.log" 2>&1; }

# Finds promtool, or takes it out of Debian's package: nobody wants a Prometheus to start for it.
# Sets PROMTOOL.
find_promtool() {
  PROMTOOL=$(command -v promtool || true)
  [[ -z $PROMTOOL ]] || return 0
  unpack prometheus
  PROMTOOL=$UNPACKED/usr/bin/promtool
}

# py COMMAND...: see mail.py; fails the case when it does.
py() { python3 "$HERE/mail.py" "$@" 2>"$CASE_DIR/python.err" || fail "$(tail -n 1 "$CASE_DIR/python.err")"; }

# barid_start TOML: starts Barid; TOML is added to the configuration, and APPS_SETTING to its client.
barid_start() {
  free_port BARID_PORT
  free_port ADMIN_PORT
  cat >"$CASE_DIR/barid.toml" <<TOML
hostname = "barid.interop.test"
data_dir = "$CASE_DIR/data"

[[listener]]
role = "relay"
address = "127.0.0.1:$BARID_PORT"

[[listener]]
role = "admin"
address = "127.0.0.1:$ADMIN_PORT"

[[client]]
name = "apps"
networks = ["127.0.0.1/32"]
sender_domains = ["sender.test", "pf.test", "exim.test", "osmtpd.test"]
${APPS_SETTING-}

$1
TOML
  "$BIN_DIR/barid" config check --config "$CASE_DIR/barid.toml" || fail "the configuration has faults"
  start barid "$BIN_DIR/barid" serve --config "$CASE_DIR/barid.toml"
  BARID_PID=$PID
  wait_for "Barid's listener" is_listening "127.0.0.1:$BARID_PORT"
}

# Retries without delay, for those who put us off.
readonly SHORT_RETRY='retry = ["1s"]
greylisted_retry = "3s"
idle_timeout = "1s"'

# route DOMAIN PORT: prints a fixed route.
route() { printf '[[route]]\ndomains = ["%s"]\nvia = "127.0.0.1:%d"\n' "$1" "$2"; }

barid_stop() {
  [[ -n $BARID_PID ]] || return 0
  local status=0
  stop "$BARID_PID" || status=$?
  BARID_PID=
  expect "Barid's exit status" "$status" 0
  "$BIN_DIR/barid" spool verify --config "$CASE_DIR/barid.toml" || fail "the spool has faults"
}

admin() { curl -fsS --max-time 5 "http://127.0.0.1:$ADMIN_PORT$1"; }

# metric NAME [LABEL]: the sum of a metric over its labels; LABEL narrows it.
metric() {
  admin /metrics | awk -v name="$1" -v label="${2-}" '
    $1 ~ "^" name "([{]|$)" && index($1, label) { sum += $2 }
    END { printf "%d\n", sum }'
}

metric_is() { [[ $(metric "$1" "${3-}") == "$2" ]]; }
metric_reached() { (($(metric "$1") >= $2)); }

# sink_start NAME ADDRESS:PORT [OPTIONS]...: Postfix's smtp-sink; dumps one file
# a message into NAME/. Sets PID.
sink_start() {
  local name=$1 address=$2
  shift 2
  mkdir -p "$CASE_DIR/$name"
  chown "$PEER_USER" "$CASE_DIR/$name"
  start "$name" smtp-sink -u "$PEER_USER" -d "$CASE_DIR/$name/m." "$@" "$address" 100
  wait_for "smtp-sink $name" is_listening "$address"
}

# arrived DIRECTORY COUNT: waits for so many whole messages, and no more; sets
# MESSAGES to their files.
arrived() {
  wait_for "$2 whole messages in ${1##*/}" whole_messages "$1" "$2"
  MESSAGES=("$1"/*)
}

# A dump ends with an empty line of its own.
whole_messages() {
  local count
  count=$(find "$1" -maxdepth 1 -type f | wc -l)
  ((count <= $2)) || fail "$count messages in ${1##*/}, not $2"
  ((count == $2)) && [[ $(py whole "$1") == yes ]]
}

# sink_arguments FILE COMMAND: what was said behind MAIL or RCPT, each in a line.
sink_arguments() { sed -n "/^Received:/q; s/^X-$2-Args: //p" "$1"; }

# postfix_start NAME PORT MAIN.CF...: a Postfix of its own; lines are added to
# its configuration.
postfix_start() {
  local dir=$CASE_DIR/$1 port=$2
  shift 2
  mkdir -p "$dir"/{etc,queue,data,mail}
  chown postfix "$dir/data"
  chown "$PEER_USER" "$dir/mail"
  postfix_main_cf "$dir" "$@" >"$dir/etc/main.cf"
  postfix_master_cf "$port" >"$dir/etc/master.cf"
  STOPPERS+=("postfix -c $dir/etc stop")
  postfix -c "$dir/etc" start || fail "Postfix does not start"
  wait_for "Postfix" is_listening "127.0.0.1:$port"
}

postfix_main_cf() {
  local dir=$1 uid
  shift
  uid=$(id -u "$PEER_USER")
  cat <<CF
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
maillog_file = $dir/mail.log
maillog_file_prefixes = $dir
myhostname = postfix.interop.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.1/32
alias_maps =
biff = no
smtp_tls_security_level = none
smtpd_relay_restrictions = permit_mynetworks, reject
virtual_mailbox_base = $dir/mail
virtual_uid_maps = static:$uid
virtual_gid_maps = static:$uid
virtual_mailbox_domains = pf.test
virtual_mailbox_maps = inline:{ {known@pf.test=known/} {sender@pf.test=sender/} }
CF
  printf '%s\n' "$@"
}

postfix_master_cf() {
  cat <<CF
127.0.0.1:$1 inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n -  0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n -  - trivial-rewrite
bounce    unix - - n -  0 bounce
defer     unix - - n -  0 bounce
trace     unix - - n -  0 bounce
tlsmgr    unix - - n 1000? 1 tlsmgr
verify    unix - - n -  1 verify
proxymap  unix - - n -  - proxymap
smtp      unix - - n -  - smtp
relay     unix - - n -  - smtp
error     unix - - n -  - error
retry     unix - - n -  - error
virtual   unix - n n -  - virtual
anvil     unix - - n -  1 anvil
scache    unix - - n -  1 scache
showq     unix n - n -  - showq
postlog   unix-dgram n - n - 1 postlogd
CF
}

# postgrey_start PORT DELAY_S
postgrey_start() {
  mkdir "$CASE_DIR/postgrey"
  chown "$PEER_USER" "$CASE_DIR/postgrey"
  start postgrey postgrey --inet="127.0.0.1:$1" --delay="$2" --dbdir="$CASE_DIR/postgrey" \
    --pidfile="$CASE_DIR/postgrey/pid" --user="$PEER_USER" --group="$(id -gn "$PEER_USER")"
  wait_for "postgrey" is_listening "127.0.0.1:$1"
}

# nsd_start PORT ZONE: the zone's text from standard input.
nsd_start() {
  local dir=$CASE_DIR/nsd
  mkdir "$dir"
  cat >"$dir/$2"
  cat >"$dir/nsd.conf" <<CONF
server:
  ip-address: 127.0.0.1@$1
  username: ""
  chroot: ""
  database: ""
  zonesdir: "$dir"
  pidfile: "$dir/pid"
  xfrdfile: "$dir/xfrd.state"
  xfrdir: "$dir"
  zonelistfile: "$dir/zone.list"
remote-control:
  control-enable: no
zone:
  name: $2
  zonefile: $2
CONF
  nsd-checkzone "$2" "$dir/$2" || fail "the zone has faults"
  start nsd nsd -d -c "$dir/nsd.conf"
  wait_for "nsd" is_listening "127.0.0.1:$1"
}
