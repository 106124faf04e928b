"""Configurations of the servers, and MTA-STS policies."""

OVERSIZE_OCTETS = 70 << 10
NOBODY_UID = 65534
MTA_STS_PORT = 8461


def nsd(directory, address, zones):
    listed = "".join(f'zone:\n  name: "{origin}"\n  zonefile: "{path}"\n' for origin, path in zones)
    return f"""server:
  ip-address: {address}
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/nsd.state"
  xfrdir: "{directory}"
  zonelistfile: "{directory}/nsd.zones"
remote-control:
  control-enable: no
{listed}"""


def unbound(directory, address, validates):
    anchor = f'trust-anchor-file: "{directory}/anchor"' if validates else ""
    return f"""server:
  interface: {address}
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  do-ip6: no
  num-threads: 1
  module-config: "{'validator iterator' if validates else 'iterator'}"
  root-hints: "{directory}/hints"
  {anchor}
  # by itself it knows that there is nothing
  local-zone: "test." nodefault
  val-log-level: 2
  ede: yes
remote-control:
  control-enable: no
"""


def policy_text(policy, domain):
    if policy.text:
        return policy.text.format(domain=domain)
    mx = [f"mx: {pattern.format(domain=domain)}" for pattern in policy.mx]
    lines = ["version: STSv1", f"mode: {policy.mode}", *mx, "max_age: 86400"]
    if policy.served == "oversize":
        lines += ["padding: " + "x" * 80] * (OVERSIZE_OCTETS // 80)
    return "".join(line + policy.line_end for line in lines)


def nginx(directory, policies):
    served = "".join(policy_server(directory, *policy) for policy in policies)
    return f"""daemon off;
user nobody nogroup;
pid "{directory}/nginx.pid";
error_log stderr;
worker_processes 1;
events {{}}
http {{
  access_log "{directory}/nginx.access.log";
  types {{}}
{served}}}
"""


def policy_server(directory, policy, domain, address):
    if policy.served == "gone":
        return ""
    certificate = f"{directory}/now/certificates/mta-sts.{domain}.pem"
    file = f'default_type "{policy.content_type}"; alias "{directory}/now/policies/{domain}";'
    answer = {"missing": "return 404;", "redirect": f"return 301 https://mta-sts.{domain}/elsewhere.txt;",
              "slow": f"limit_rate 1; {file}"}.get(policy.served, file)
    return f"""  server {{
    listen {address}:443 ssl;
    ssl_certificate "{certificate}";
    ssl_certificate_key "{certificate}";
    location = /.well-known/mta-sts.txt {{ {answer} }}
    location = /elsewhere.txt {{ {file} }}
  }}
"""


def postfix_main(directory):
    return f"""compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
myhostname = postfix.interop.test
mydestination =
inet_interfaces = all
inet_protocols = all
mynetworks = 127.0.0.1/32
alias_maps =
biff = no
"""


def postfix_sender(directory):
    """One that heeds DANE, and MTA-STS by way of its resolver."""
    return f"""{postfix_main(directory / "postfix-sender")}smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_security_level = dane
smtp_tls_policy_maps = socketmap:inet:127.0.0.1:{MTA_STS_PORT}:postfix
smtp_tls_CAfile = {directory}/ca.pem
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_protocols = >=TLSv1.2
smtp_tls_mandatory_protocols = >=TLSv1.2
smtp_tls_loglevel = 1
"""


def mta_sts():
    """It asks for changed records each time."""
    return f"""host: 127.0.0.1
port: {MTA_STS_PORT}
cache_grace: 0
cache:
  type: internal
  options:
    cache_size: 1000
"""


def postfix_hosts(directory, hosts):
    return f"""{postfix_main(directory / "postfix-hosts")}smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
virtual_mailbox_base = {directory}
virtual_mailbox_domains = {' '.join(host['domain'] for host in hosts)}
virtual_mailbox_maps = static:mail/
virtual_uid_maps = static:{NOBODY_UID}
virtual_gid_maps = static:{NOBODY_UID}
"""


def postfix_master(directory, hosts):
    """What is added to master.cf: a server for each host."""
    def option(host):
        if host["tls"] == "lost":
            return f"smtpd_tls_cert_file={directory}/lost.pem"
        return f"smtpd_tls_chain_files={directory}/now/certificates/{host['name']}.pem"

    return "".join(f"{host['address']}:25 inet n - n - - smtpd -o {option(host)} -o myhostname={host['name']}\n"
                   for host in hosts)


def exim(directory, hosts):
    name = f"${{lookup{{$received_ip_address}}lsearch{{{directory}/exim.names}}}}"
    return f"""exim_user = Debian-exim
exim_group = Debian-exim
deliver_drop_privilege
never_users =
spool_directory = {directory}/exim
log_file_path = {directory}/exim/%s.log
pid_file_path = {directory}/exim/pid
local_interfaces = {' : '.join(host['address'] for host in hosts)}
daemon_smtp_ports = 25
acl_smtp_rcpt = accept
acl_smtp_data = accept
keep_environment =
host_lookup =
rfc1413_hosts =
queue_run_in_order
primary_hostname = exim.interop.test
smtp_active_hostname = {name}
received_header_text = Received: by {name} with $received_protocol ($tls_in_ver) id $message_exim_id for <$received_for>
tls_advertise_hosts = *
tls_certificate = {directory}/now/certificates/{name}.pem
tls_privatekey = {directory}/now/certificates/{name}.pem
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {directory}/mail
"""
