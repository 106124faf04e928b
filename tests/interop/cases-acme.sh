# Cases about certificates that change: those that Barid gets from a Pebble, and files. Sourced.
# shellcheck shell=bash

CASES+=(
  "acme-issues acme_issues"
  "acme-renews acme_renews"
  "acme-recovers acme_recovers"
  "acme-reload certificate_replaced on-reload"
  "acme-reload-unasked certificate_replaced unasked"
)

readonly ACME_NAMES=(mx.interop.test mail.interop.test)
readonly DAY_S=86400

# What Barid is told about Pebble.
acme_settings() {
  local names
  printf -v names '"%s", ' "${ACME_NAMES[@]}"
  cat <<TOML
[acme]
directory = "https://127.0.0.1:$PEBBLE_PORT/dir"
email = "postmaster@interop.test"
domains = [${names%, }]
listen = "127.0.0.1:$CHALLENGE_PORT"
[tls]
extra_ca = ["$CASE_DIR/ca.pem"]
TOML
}

cert() { "$BIN_DIR/barid" cert "$@" --config "$CASE_DIR/barid.toml"; }

acme() { python3 "$HERE/acme.py" "$@" 2>"$CASE_DIR/acme.err" || fail "$(tail -n 1 "$CASE_DIR/acme.err")"; }

# told_of NAME FIELD: what `barid cert ls` tells.
told_of() { cert ls --json | acme listed "$1" "$2"; }

has_failed() {
  local told
  told=$(told_of "$1" error) && [[ $told != null ]]
}

# shown_for NAME: the certificate that a client gets who asks for a name.
shown_for() { handshake -servername "$1" | openssl x509 || fail "no certificate is shown for $1"; }
serial() { openssl x509 -noout -serial; }
key_digest() { openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1; }
# moment start|end: of a certificate, in seconds.
moment() { date -d "$(openssl x509 -noout "-$1date" | cut -d= -f2)" +%s; }

# proves ROOTS NAME: whether the whole chain that is shown for a name holds, by openssl's word.
proves() {
  [[ $(handshake -servername "$2" -CAfile "$CASE_DIR/$1" -verify_return_error -verify_hostname "$2") == \
    *"Verify return code: 0 (ok)"* ]]
}

# all_issued: waits for a certificate for each name.
all_issued() {
  local name
  for name in "${ACME_NAMES[@]}"; do
    wait_for "a certificate for $name" proves root.pem "$name"
  done
}

shows_serial() { [[ $(shown_for "$1" | serial) == "$2" ]]; }

# listed_as_shown NAME ORIGIN: all that `barid cert ls` tells of a certificate, as openssl finds it.
listed_as_shown() {
  local pem=$CASE_DIR/shown.pem start end renewal
  shown_for "$1" >"$pem"
  start=$(moment start <"$pem")
  end=$(moment end <"$pem")
  expect "the names" "$(told_of "$1" names)" "$1"
  expect "the origin" "$(told_of "$1" origin)" "$2"
  expect "the failure" "$(told_of "$1" error)" null
  expect "the serial in the file" "$(serial <"$(told_of "$1" file)")" "$(serial <"$pem")"
  expect "the TLSA record" "$(told_of "$1" tlsa)" "3 1 1 $(key_digest <"$pem")"
  expect "the start" "$(date -d "$(told_of "$1" not_before)" +%s)" "$start"
  expect "the end" "$(date -d "$(told_of "$1" not_after)" +%s)" "$end"
  renewal=$(told_of "$1" renew_at)
  if [[ $2 != acme ]]; then
    expect "the renewal" "$renewal" null
    return
  fi
  # two thirds of life are over then, more or less
  renewal=$((($(date -d "$renewal" +%s) - start) * 100 / (end - start)))
  ((renewal >= 55 && renewal <= 75)) || fail "$1 is to be renewed when $renewal% of its life are over"
}

# tlsa_as_shown: lines for a zone file, which nsd understands.
tlsa_as_shown() {
  local name line zone=$CASE_DIR/zone
  {
    # shellcheck disable=SC2016 # of the zone
    printf '$ORIGIN interop.test.\n$TTL 2\n@ SOA ns postmaster 1 60 60 60 2\n@ NS ns\nns A 127.0.0.1\n'
    cert tlsa
  } >"$zone"
  for name in "${ACME_NAMES[@]}"; do
    line="tcp.$name. IN TLSA 3 1 1 $(shown_for "$name" | key_digest)"
    grep -Fxq "_25._$line" "$zone" || fail "barid cert tlsa does not print '_25._$line'"
    expect "the line for $name" "$(cert tlsa "$name")" "_25._$line"
    expect "the line for $name, port 465" "$(cert tlsa "$name" --port 465)" "_465._$line"
  done
  nsd-checkzone interop.test "$zone" || fail "nsd does not take what barid cert tlsa prints"
}

# challenge_status PATH: what the listener for challenges answers.
challenge_status() {
  curl -sS --path-as-is --max-time 5 -o "$CASE_DIR/answer" -w '%{http_code}' "http://127.0.0.1:$CHALLENGE_PORT$1"
}

# Certificates are ordered, shown and told of, and outlive a restart. Some nonces are refused, as they may be.
acme_issues() {
  local name path before=() plans=()
  pebble_prepare
  pebble_start "$DAY_S" 15
  barid_start "$(acme_settings)"
  all_issued
  handshake -noservername | openssl x509 -noout -checkend 0 || fail "who asks for no name gets no certificate"
  for name in "${ACME_NAMES[@]}"; do
    listed_as_shown "$name" acme
    before+=("$(shown_for "$name" | serial)")
    plans+=("$(told_of "$name" renew_at)")
  done
  tlsa_as_shown
  [[ -n $(find "$CASE_DIR/data/acme" -type f) ]] || fail "there are no files in data/acme"
  expect "files that others may read" "$(find "$CASE_DIR/data/acme" -type f ! -perm 600)" ""
  for path in / /.well-known/acme-challenge/ /.well-known/acme-challenge/{unknown,../../x}; do
    expect "the answer to $path" "$(challenge_status "$path")" 404
  done
  expect "orders" "$(pebble_said "Added order ")" 2
  barid_stop
  barid_start "$(acme_settings)"
  all_issued
  for name in "${ACME_NAMES[@]}"; do
    expect "the serial after a restart" "$(shown_for "$name" | serial)" "${before[0]}"
    expect "the renewal after a restart" "$(told_of "$name" renew_at)" "${plans[0]}"
    before=("${before[@]:1}") plans=("${plans[@]:1}")
  done
  barid_stop
  expect "orders after a restart" "$(pebble_said "Added order ")" 2
  expect "accounts" "$(pebble_said "accounts in memory")" 1
  expect "certificates in the log" \
    "$(grep -c 'event=certificate_issued domain=.* not_after=' "$CASE_DIR/barid.log" || true)" 2
}

# load_begins ROOTS SECONDS NAME...: see acme.py change.
load_begins() {
  start load python3 "$HERE/acme.py" change "$BARID_PORT" "$CASE_DIR/$1" "${@:2}"
  LOAD_PID=$PID
  wait_for "the load" load_is_under_way
}

load_is_under_way() {
  grep -q '^under way' "$CASE_DIR/load.log" && return
  kill -0 "$LOAD_PID" || fail "there is no load: $(tail -n 1 "$CASE_DIR/load.log")"
  return 1
}

# load_ends: waits for that; what was taken arrives.
load_ends() {
  finish "$LOAD_PID" || fail "$(tail -n 1 "$CASE_DIR/load.log")"
  wait_for "all deliveries" metric_is barid_delivered_recipients_total "$(tail -n 1 "$CASE_DIR/load.log")"
}

# renewed NAME KEPT [OPTION]...: on demand, and whether the key stays.
renewed() {
  local name=$1 old=$CASE_DIR/old.pem new=$CASE_DIR/new.pem kept=no
  shown_for "$name" >"$old"
  cert renew "$name" "${@:3}" || fail "barid cert renew $name ${*:3} fails"
  proves root.pem "$name" || fail "what is shown for $name after its renewal proves nothing"
  shown_for "$name" >"$new"
  [[ $(serial <"$old") != "$(serial <"$new")" ]] || fail "what is shown for $name is not new"
  [[ $(key_digest <"$old") != "$(key_digest <"$new")" ]] || kept=yes
  expect "whether the key of $name stays${3:+ with $3}" "$kept" "$2"
}

# Certificates of 45 seconds are renewed in time, which no session notices, and with the key that they had.
acme_renews() {
  local name keys=()
  pebble_prepare
  pebble_start 45
  barid_and_sink plain "$(acme_settings)"
  all_issued
  for name in "${ACME_NAMES[@]}"; do keys+=("$(shown_for "$name" | key_digest)"); done
  load_begins root.pem 45 "${ACME_NAMES[@]}"
  load_ends
  for name in "${ACME_NAMES[@]}"; do
    expect "the key of $name" "$(shown_for "$name" | key_digest)" "${keys[0]}"
    keys=("${keys[@]:1}")
  done
  expect "failures in the log" "$(grep -c event=certificate_not_renewed "$CASE_DIR/barid.log" || true)" 0
  renewed mx.interop.test yes
  renewed mx.interop.test no --new-key
  renewed mx.interop.test yes
  listed_as_shown mx.interop.test acme
}

# signed_by_itself NAME: what is shown for it.
signed_by_itself() {
  shown_for "$1" >"$CASE_DIR/own.pem"
  openssl verify -CAfile "$CASE_DIR/own.pem" "$CASE_DIR/own.pem" ||
    fail "what is shown for $1 is not signed by itself"
}

# Nobody is there to ask; then it finds nothing where one name leads; then all is well; then it knows us no more.
acme_recovers() {
  local name told
  pebble_prepare
  barid_and_sink plain "$(acme_settings)"
  for name in "${ACME_NAMES[@]}"; do
    wait_for "the failure for $name" has_failed "$name"
    wait_for "the failure for $name in the log" \
      grep -q "event=certificate_not_renewed domain=$name .*error=" "$CASE_DIR/barid.log"
    expect "the origin" "$(told_of "$name" origin)" self-signed
    signed_by_itself "$name"
  done
  by_smtplib tls sender@sender.test someone@sink.test
  arrived "$SINK" 1
  leads_to mx.interop.test 127.0.0.9
  pebble_start "$DAY_S"
  if told=$(cert renew 2>&1); then fail "a name that leads elsewhere is certified"; fi
  expect_match "what barid cert renew tells" "$told" 'mx\.interop\.test'
  proves root.pem mail.interop.test || fail "one name's failure keeps the other from its certificate"
  listed_as_shown mail.interop.test acme
  expect_match "the failure for mx.interop.test" "$(told_of mx.interop.test error)" '127\.0\.0\.9|refused'
  signed_by_itself mx.interop.test
  leads_to mx.interop.test
  cert renew mx.interop.test || fail "barid cert renew fails where all is well again"
  proves root.pem mx.interop.test || fail "mx.interop.test is not certified"
  listed_as_shown mx.interop.test acme
  pebble_forgets "$DAY_S"
  if proves root.pem mx.interop.test; then fail "Pebble has its old root"; fi
  cert renew || fail "barid cert renew fails where the account is forgotten"
  for name in "${ACME_NAMES[@]}"; do
    proves root.pem "$name" || fail "$name is not certified anew"
    listed_as_shown "$name" acme
  done
  expect "new accounts" "$(pebble_said "accounts in memory")" 2
  by_smtplib tls sender@sender.test someone@sink.test
  arrived "$SINK" 2
}

# put_in_place SUFFIX: as others do it who renew certificates.
put_in_place() { mv -f "$CASE_DIR/next.$1" "$CASE_DIR/mx.$1"; }

reload() { "$BIN_DIR/barid" reload --config "$CASE_DIR/barid.toml"; }

# certificate_replaced on-reload|unasked: its files are replaced one after the other. While they do not belong
# together, the old one is shown; then the new one, which no session notices.
certificate_replaced() {
  local old watch=
  [[ $1 == on-reload ]] || watch='watch_interval = "1s"'
  make_authority
  certify mx DNS:mx.interop.test
  barid_and_sink plain "[tls]
$watch
[[tls.certificates]]
chain = \"$CASE_DIR/mx.pem\"
key = \"$CASE_DIR/mx.key\""
  listed_as_shown mx.interop.test file
  old=$(shown_for mx.interop.test | serial)
  certify next DNS:mx.interop.test
  load_begins ca.pem 30 mx.interop.test
  put_in_place pem
  if [[ $1 == unasked ]]; then
    holds_for 3000 "the old certificate" shows_serial mx.interop.test "$old"
  else
    if reload; then fail "a key is taken that is not the certificate's"; fi
    expect "the serial" "$(shown_for mx.interop.test | serial)" "$old"
  fi
  put_in_place key
  [[ $1 == unasked ]] || reload || fail "barid reload fails"
  load_ends
  listed_as_shown mx.interop.test file
}
