#!/usr/bin/env bash
#
# machine.sh: becomes a machine that boots systemd, made out of this one's files. Runs as the first process of
# fresh namespaces (mount, PID, network, UTS, IPC, cgroup); machine_boot in cases-deploy.sh makes them.
#
# What is written to /etc, /usr/local, /var and /tmp lands in memory and is gone with the namespaces. Only an empty
# target is booted, none of the services that this machine has.
set -euo pipefail

readonly HOME_OF_MACHINE=/run/machine

# over_memory PATH: what is written below it stays in memory.
over_memory() {
  local layers=$HOME_OF_MACHINE/over${1//\//-}
  mkdir -p "$layers"/{upper,work}
  chmod --reference="$1" "$layers/upper"
  mount -t overlay overlay -o "lowerdir=$1,upperdir=$layers/upper,workdir=$layers/work" "$1"
}

# A /dev of its own, as systemd-nspawn makes one: systemd would add to this machine's.
own_dev() {
  local node dev=$HOME_OF_MACHINE/dev
  mkdir -p "$dev"
  mount -t tmpfs -o mode=755 tmpfs "$dev"
  for node in null zero full random urandom tty; do
    : >"$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
  done
  mkdir "$dev/pts"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$dev/pts"
  ln -s pts/ptmx "$dev/ptmx"
  mkdir -m 1777 "$dev/shm"
  ln -s /proc/self/fd "$dev/fd"
  mount --rbind "$dev" /dev
}

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
own_dev
for path in /etc /usr/local /var /tmp; do over_memory "$path"; done
mount -t tmpfs -o mode=755 tmpfs /etc/systemd/system
: >/etc/fstab
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# kernel settings are those of all machines here
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
ip link set lo up
hostname machine.interop.test

mkdir "$HOME_OF_MACHINE"/{units,none}
for target in machine sysinit basic network-online nss-lookup shutdown multi-user; do
  printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >"$HOME_OF_MACHINE/units/$target.target"
done
unset NOTIFY_SOCKET
export container=interop SYSTEMD_UNIT_PATH=/etc/systemd/system:$HOME_OF_MACHINE/units
export SYSTEMD_GENERATOR_PATH=$HOME_OF_MACHINE/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=$HOME_OF_MACHINE/none
exec /lib/systemd/systemd --system --unit=machine.target --show-status=no
