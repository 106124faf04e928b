# Postfix as the server under test. Sourced.
# shellcheck shell=bash
#
# Debian's binaries with a configuration, spool, data and log directory of
# their own; the machine's own Postfix, if it runs, is not touched.

readonly POSTFIX_SHIPPED=/usr/share/postfix
readonly POSTFIX_FRAGMENTS=$HERE/postfix

postfix_check() {
  local program
  for program in postfix postconf; do
    command -v "$program" >/dev/null ||
      die "Postfix is missing; as root: apt-get install postfix iproute2 procps jq"
  done
  [[ -r $POSTFIX_SHIPPED/master.cf.dist && -r $POSTFIX_SHIPPED/main.cf.debian ]] ||
    die "$POSTFIX_SHIPPED has not Debian's templates; this needs Debian's Postfix"
}

postfix_version() { postconf -h mail_version; }

# postfix_prepare CONFIG ROOT: writes the private files. CONFIG names a
# fragment in postfix/.
postfix_prepare() {
  local config=$1 root=$2 etc=$2/etc/postfix file
  mkdir -p "$etc" "$root/var/spool/postfix" "$root/var/lib/postfix"
  chown postfix:postfix "$root/var/lib/postfix"
  for file in dynamicmaps.cf dynamicmaps.cf.d postfix-files postfix-files.d \
    post-install postfix-script; do
    if [[ -e /etc/postfix/$file ]]; then cp -a "/etc/postfix/$file" "$etc/"; fi
  done
  cp "$POSTFIX_SHIPPED/master.cf.dist" "$etc/master.cf"
  : >"$etc/main.cf"
  if [[ $config == default ]]; then
    cat "$POSTFIX_SHIPPED/main.cf.debian" "$POSTFIX_SHIPPED/main.cf.tls" >"$etc/main.cf"
  fi
  postfix_settings "$etc" "$POSTFIX_FRAGMENTS/$config.cf"
  postfix_services "$etc" "$config"
  if [[ ${SIGNED-no} == yes ]]; then postfix_signs "$root"; fi
}

# postfix_settings ETC FRAGMENT: sets each "name = value" line of FRAGMENT.
postfix_settings() {
  local settings
  mapfile -t settings < <(grep -E '^[a-z0-9_]+ *=' "$2")
  postconf -c "$1" -e "${settings[@]}"
}

# postfix_services ETC CONFIG: receive on the port of the test, leaving 25 to
# the destinations; the tuned Postfix runs outside the chroot.
postfix_services() {
  sed -i "s/^smtp  *inet /$SERVER_ADDRESS inet /" "$1/master.cf"
  if [[ $2 == tuned ]]; then postconf -c "$1" -F '*/*/chroot=n'; fi
}

# Starts it inside the sandbox and the cgroup; it goes to the background by
# itself. What Debian's service does before the start (filling the chroot) is
# done here too, outside the cgroup.
postfix_start() {
  if [[ ${SIGNED-no} == yes ]]; then opendkim_start "$RUN/root" || return 1; fi
  "${IN_SANDBOX[@]}" /usr/lib/postfix/configure-instance.sh - &&
    "${IN_SANDBOX[@]}" "${CGROUP_JOIN[@]}" "$CGROUP" timeout 60 postfix start
}

postfix_alive() { ! cgroup_empty; }

postfix_ready() { smtp_greets; }
