# Mail that is signed: by one RSA key of 2048 bits, the same for every server. Sourced.
# shellcheck shell=bash
#
# Barid signs by itself; Postfix asks OpenDKIM, as Debian ships it. Neither takes mail that it cannot sign.

readonly SIGNED_DOMAIN=sender.test # the author of the load's messages
readonly SIGNED_SELECTOR=load
readonly OPENDKIM_PORT=8891

# Makes the key, once.
signing_key() {
  [[ -e $WORK/dkim.pem ]] || openssl genrsa -out "$WORK/dkim.pem" 2048 2>/dev/null
}

# barid_signs ROOT: puts the key into its data directory, as one that has signed for long.
barid_signs() {
  local ring=$1/data/dkim
  signing_key || return 1
  mkdir -p "$ring/$SIGNED_DOMAIN"
  install -m 600 "$WORK/dkim.pem" "$ring/$SIGNED_DOMAIN/$SIGNED_SELECTOR.pem"
  cat >"$ring/keys.json" <<JSON
{"keys": [{"domain": "$SIGNED_DOMAIN", "selector": "$SIGNED_SELECTOR", "algorithm": "rsa", "made": 0, "stage": "active", "since": 0}]}
JSON
  printf '\n[dkim]\nrequired = true\n' >>"$1/barid.toml"
}

# postfix_signs ROOT: has it ask OpenDKIM.
postfix_signs() {
  command -v opendkim >/dev/null || die "OpenDKIM is missing; as root: apt-get install opendkim"
  signing_key || return 1
  install -m 600 "$WORK/dkim.pem" "$1/dkim.pem"
  cat >"$1/opendkim.conf" <<CONF
Mode s
Background no
Syslog no
Socket inet:$OPENDKIM_PORT@127.0.0.1
Domain $SIGNED_DOMAIN
Selector $SIGNED_SELECTOR
KeyFile $1/dkim.pem
RequireSafeKeys no
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
OversignHeaders From
CONF
  postconf -c "$1/etc/postfix" -e "smtpd_milters = inet:127.0.0.1:$OPENDKIM_PORT" "milter_default_action = tempfail"
}

# opendkim_start ROOT: beside Postfix, in the same sandbox and cgroup, with which it ends.
opendkim_start() {
  "${IN_SANDBOX[@]}" "${CGROUP_JOIN[@]}" "$CGROUP" opendkim -f -x "$1/opendkim.conf" >"$1/var/log/opendkim.log" 2>&1 &
  wait_until 10 sandbox_listens tcp "127.0.0.1:$OPENDKIM_PORT"
}
