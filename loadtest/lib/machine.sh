# What must be there before a comparison can start: the machine's own tools, a
# cgroup that counts, our binaries. Sourced.
# shellcheck shell=bash

readonly DESCRIPTORS=65536

# Dies unless everything is there that a comparison needs.
check_machine() {
  local program
  ((EUID == 0)) || die "needs root, for namespaces and cgroups"
  for program in ip ss unshare nsenter setpriv findmnt pgrep pkill jq; do
    command -v "$program" >/dev/null ||
      die "$program is missing; apt-get install postfix iproute2 procps jq"
  done
  [[ ! ${CHOSEN_SERVERS[*]} == *postfix* ]] || postfix_check
  [[ $(stat --file-system --format %T "$WORK_BASE") != tmpfs ]] ||
    die "$WORK_BASE is in memory; choose a directory on a disk with --work-dir"
  cgroup_detect || die "neither cgroup v2 nor cpuacct of cgroup v1 counts CPU here"
  raise_descriptor_limit
}

# The same limit for both servers, whatever the shell was given.
raise_descriptor_limit() {
  local hard
  hard=$(ulimit -H -n)
  if [[ $hard == unlimited ]] || ((hard > DESCRIPTORS)); then hard=$DESCRIPTORS; fi
  ulimit -S -n "$hard"
}

# Finds the binaries, or builds them.
check_binaries() {
  local tool needed=(barid-load barid-sink)
  [[ ! ${CHOSEN_SERVERS[*]} == *barid* ]] || needed+=(barid)
  for tool in "${needed[@]}"; do
    [[ -x $BIN_DIR/$tool ]] && continue
    [[ $BIN_DIR -ef $HERE/../target/release || $BIN_DIR == "$HERE/../target/release" ]] ||
      die "$BIN_DIR has no $tool"
    command -v cargo >/dev/null || die "$BIN_DIR has no $tool, and there is no cargo to build it"
    (cd "$HERE/.." && cargo build --release --bins) || die "the build failed"
    break
  done
  BIN_DIR=$(cd "$BIN_DIR" && pwd)
}
