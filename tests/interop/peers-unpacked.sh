# Exim and OpenSMTPD. Debian installs one mail server at a time, and Postfix it is; these two are
# taken out of their packages and run in a mount namespace each, where the users and directories
# that are built into them exist. The machine itself sees nothing of it. Sourced.
# shellcheck shell=bash

# unpack PACKAGE: takes a Debian package apart without installing it, once a run; sets UNPACKED.
unpack() {
  UNPACKED=$WORK/unpacked/$1
  [[ ! -d $UNPACKED ]] || return 0
  mkdir -p "$WORK/unpacked/$1.deb"
  (cd "$WORK/unpacked/$1.deb" && { apt-get download "$1" || { apt-get update && apt-get download "$1"; }; }) ||
    fail "cannot get $1"
  dpkg-deb -x "$WORK/unpacked/$1.deb/$1"_*.deb "$UNPACKED"
}

# foreign_users DIR NAME...: writes passwd and group into DIR: the machine's, and these besides.
foreign_users() {
  local dir=$1 name id=61000
  shift
  cp /etc/passwd /etc/group "$dir"
  for name; do
    if getent passwd "$name" >/dev/null; then continue; fi
    id=$((id + 1))
    printf '%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n' "$name" "$id" "$id" >>"$dir/passwd"
    printf '%s:x:%d:\n' "$name" "$id" >>"$dir/group"
  done
}

# start_apart NAME DIR SCRIPT: like start, where DIR's users are the machine's; SCRIPT arranges the
# rest of the namespace and ends in exec.
start_apart() {
  start "$1" unshare --mount sh -euc "
mount --bind '$2/passwd' /etc/passwd
mount --bind '$2/group' /etc/group
$3"
}

# exim_start PORT [LINE]...: an Exim with mailboxes known@exim.test and sender@exim.test; lines are
# added to the main part of its configuration. What is not for exim.test goes to EXIM_RELAYHOST, a
# port, with the options for a smtp transport in EXIM_TRANSPORT.
exim_start() {
  local dir=$CASE_DIR/exim port=$1
  shift
  unpack exim4-daemon-light
  mkdir -p "$dir"/{spool,log,mail}
  foreign_users "$dir" Debian-exim
  exim_conf "$dir" "$port" "$@" >"$dir/exim.conf"
  # Exim wants no configuration that others may write
  chmod 644 "$dir/exim.conf"
  chown "$(awk -F: '$1 == "Debian-exim" { print $3 }' "$dir/passwd")" "$dir"/{spool,log,mail}
  start_apart exim "$dir" "exec '$UNPACKED/usr/sbin/exim4' -C '$dir/exim.conf' -bdf"
  wait_for "Exim" is_listening "127.0.0.1:$port"
}

exim_conf() {
  local dir=$1 port=$2
  shift 2
  cat <<CF
exim_path = $UNPACKED/usr/sbin/exim4
exim_user = Debian-exim
exim_group = Debian-exim
# no root behind it: all its mailboxes are its own
deliver_drop_privilege
never_users =
primary_hostname = exim.interop.test
spool_directory = $dir/spool
log_file_path = $dir/log/%s
pid_file_path = $dir/log/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = $port
domainlist here = exim.test
acl_smtp_rcpt = recipient
acl_smtp_data = content
keep_environment =
host_lookup =
rfc1413_hosts =
dsn_advertise_hosts = *
log_selector = +tls_cipher +tls_peerdn
CF
  # by itself it would offer STARTTLS with a certificate that it makes
  if (($#)); then printf '%s\n' "$@"; else echo 'tls_advertise_hosts ='; fi
  cat <<CF
begin acl
recipient:
  accept domains = +here
         verify = recipient
  accept condition = \${if >{${EXIM_RELAYHOST:-0}}{0}}
         domains = !+here
  deny   message = no such user here
content:
  accept
begin routers
mailboxes:
  driver = accept
  domains = +here
  local_parts = known : sender
  transport = maildir
nobody:
  driver = redirect
  domains = +here
  data = :fail: no such user here
  allow_fail
relayhost:
  driver = manualroute
  route_list = * 127.0.0.1::${EXIM_RELAYHOST:-0}
  self = send
  transport = relay
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = $dir/mail/\$local_part_data
  create_directory
  return_path_add
relay:
  driver = smtp
  ${EXIM_TRANSPORT:-}
CF
}

# opensmtpd_start PORT [LISTEN OPTION]...: an OpenSMTPD with mailboxes known@osmtpd.test and
# sender@osmtpd.test. With `tls` it uses the certificate that was made as `peer`.
opensmtpd_start() {
  local dir=$CASE_DIR/opensmtpd port=$1
  shift
  unpack opensmtpd
  mkdir -p "$dir/mail"
  chown "$PEER_USER" "$dir/mail"
  foreign_users "$dir" opensmtpd opensmtpq
  opensmtpd_conf "$dir" "$port" "$@" >"$dir/smtpd.conf"
  start_apart opensmtpd "$dir" "
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir -p /var/lib/opensmtpd/empty
mount -t tmpfs none /var/spool
mkdir -m 711 /var/spool/smtpd
mount -t tmpfs none /usr/libexec
ln -s '$UNPACKED/usr/libexec/opensmtpd' /usr/libexec/opensmtpd
exec '$UNPACKED/usr/sbin/smtpd' -d -f '$dir/smtpd.conf'"
  wait_for "OpenSMTPD" is_listening "127.0.0.1:$port"
}

opensmtpd_conf() {
  local dir=$1 port=$2
  shift 2
  [[ $* != *tls* ]] || printf 'pki peer cert "%s"\npki peer key "%s"\n' "$CASE_DIR/peer.pem" "$CASE_DIR/peer.key"
  cat <<CF
table mailboxes { known@osmtpd.test, sender@osmtpd.test }
table owner { "@" = $PEER_USER }
listen on 127.0.0.1 port $port hostname opensmtpd.interop.test $*
action deliver maildir "$dir/mail/%{rcpt.user}" user $PEER_USER virtual <owner>
match from any for domain osmtpd.test rcpt-to <mailboxes> action deliver
CF
}
