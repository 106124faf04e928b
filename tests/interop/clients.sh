# Clients that others wrote, each made to hand $ORIGINAL to Barid. Sourced.
#
# by_CLIENT HOW FROM TO...: HOW is `plaintext`, or `tls`, where the client must fail if it does not
# get STARTTLS. None verifies the certificate: Barid has made it by itself.
# shellcheck shell=bash

readonly NODEMAILER=nodemailer@6.9.16

by_swaks() {
  local how=$1 from=$2 options=()
  shift 2
  [[ $how == plaintext ]] || options=(-tls)
  swaks_send "$from" "$(
    IFS=,
    echo "$*"
  )" "${options[@]}"
}

by_smtplib() { py "$(if [[ $1 == tls ]]; then echo send_tls; else echo send; fi)" "$BARID_PORT" "$2" "$ORIGINAL" "${@:3}"; }

# by_msmtp HOW FROM TO... [-- OPTION...]: takes lines of the machine, and no configuration but this.
by_msmtp() {
  local how=$1 from=$2 recipients=() tls=off
  shift 2
  while (($#)) && [[ $1 != -- ]]; do
    recipients+=("$1")
    shift
  done
  [[ $how == plaintext ]] || tls=on
  tr -d '\r' <"$ORIGINAL" |
    msmtp --host=127.0.0.1 --port="$BARID_PORT" --domain=client.sender.test --from="$from" \
      --tls=$tls --tls-starttls=on --tls-certcheck=off "${@:2}" -- "${recipients[@]}"
}

# by_nodemailer HOW FROM TO...
by_nodemailer() {
  local how=$1 from=$2
  shift 2
  find_nodemailer
  NODE_PATH=$WORK/npm/node_modules node "$HERE/nodemailer.js" "$BARID_PORT" "$how" "$ORIGINAL" "$from" "$@"
}

# Gets nodemailer, once a run.
find_nodemailer() {
  [[ ! -d $WORK/npm/node_modules/nodemailer ]] || return 0
  npm install --prefix "$WORK/npm" --no-audit --no-fund --ignore-scripts "$NODEMAILER" || fail "cannot get $NODEMAILER"
}

# by_postfix HOW FROM TO...: a Postfix in between, whose relayhost is Barid.
by_postfix() {
  if [[ -z ${POSTFIX_PORT-} ]]; then
    free_port POSTFIX_PORT
    postfix_start postfix "$POSTFIX_PORT" "relayhost = [127.0.0.1]:$BARID_PORT" \
      "smtp_tls_security_level = $(if [[ $1 == tls ]]; then echo encrypt; else echo none; fi)"
  fi
  py send "$POSTFIX_PORT" "$2" "$ORIGINAL" "${@:3}"
}

# by_exim HOW FROM TO...: an Exim in between, which hands on in chunks where it may.
by_exim() {
  if [[ -z ${EXIM_PORT-} ]]; then
    free_port EXIM_PORT
    EXIM_RELAYHOST=$BARID_PORT
    EXIM_TRANSPORT="$(if [[ $1 == tls ]]; then echo hosts_require_tls; else echo hosts_avoid_tls; fi) = *"
    exim_start "$EXIM_PORT"
  fi
  py send "$EXIM_PORT" "$2" "$ORIGINAL" "${@:3}"
}
