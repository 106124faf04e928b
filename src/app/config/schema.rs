//! The settings, as they are written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::checks::{
    domain_limits_something, is_host_and_new, is_known, is_of_one_domain, is_whole, limits_something, serves,
};
use super::section::{Contents, at_least, not_empty, section, such, within};
use super::units::{Rate, Size, Span};
use super::value::{AnchorFile, ProviderData, RootsFile, choice};
use crate::accounts::DomainPattern;
use crate::inbound::{ConnectionLimits, Patience};
use crate::mail::{Address, Class, ClientName, Domain};
use crate::net::{Fingerprint, Https};
use crate::smtp::Limits;
use crate::store::Settings;

/// More of anything under way at once is a slip of the pen.
const COUNT_MAX: usize = 1_000_000;

/// Port 80 of every address.
const ANY_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80);

section! {
    ConfigFile {
        /// Your name in EHLO and reports; its address should have a matching PTR record.
        hostname: Domain => Restart, example("\"relay.example.org\"");
        /// Where the queue is kept. It belongs to one relay at a time.
        data_dir: PathBuf => Restart, example("\"/var/lib/barid\"");
        /// More files to read, relative to this one, in the order of their names. Tables may be spread over
        /// files, and arrays of tables add up in the order in which they are read; a setting that is named
        /// twice is a fault.
        #[expect(dead_code, reason = "heeded before anything is read as a setting")]
        include: Vec<String> = Vec::new() => Live, example("[\"conf.d/*.toml\"]");
        listener: Vec<ListenerSection> => Restart, rule(such(
            "have an entry of role = \"relay\": no mail can come in without",
            |listeners| listeners.iter().any(|listener| listener.role == Role::Relay),
        ));
        client: Vec<ClientSection> => Live, rule(such(
            "have at least one entry: nobody else may hand mail over",
            |clients| !clients.is_empty(),
        ));
        limits: LimitsSection;
        tls: TlsSection;
        acme: AcmeSection;
        dkim: DkimSection;
        dns: DnsSection;
        delivery: DeliverySection;
        route: Vec<RouteSection>;
        provider: Vec<ProviderSection>;
        limit: Vec<DomainLimitSection>;
        store: StoreSection;
    }
}

section! {
    /// Where the relay listens. One of role "relay" is needed.
    ListenerSection, another = r#"
# metrics for Prometheus
[[listener]]
role = "admin"
address = "127.0.0.1:8025"
"# {
        /// "relay" takes mail from clients; "admin" serves /metrics, /healthz and /readyz over HTTP.
        role: Role => Restart, example("\"relay\"");
        /// Port 0 takes any that is free.
        address: SocketAddr => Restart, example("\"127.0.0.1:2525\"");
        /// Whether clients may use STARTTLS, or must.
        tls: ListenerTls = ListenerTls::Offered => Live;
        /// Proxies whose connections begin with a PROXY header, version 2, which says whose they are.
        proxies: Vec<IpNet> = Vec::new() => Live, example("[\"192.0.2.9\"]");
    }
}

choice! {
    /// What a listener is for.
    Role { Relay = "relay", Admin = "admin" }
}

choice! {
    /// Whether clients may use STARTTLS.
    ListenerTls { Offered = "offered", Required = "required", Off = "off" }
}

section! {
    /// Who may hand mail over. One is needed, known by `networks` or by `certificates`.
    ClientSection, check = is_known {
        /// Its name in logs and metrics.
        name: ClientName => Live, example("\"apps\"");
        /// Where it comes from. Where networks of several clients hold an address, the narrowest counts.
        networks: Vec<IpNet> = Vec::new() => Live, example("[\"127.0.0.0/8\", \"::1/128\"]");
        /// Certificates by which it is known, wherever it comes from: their SHA-256 fingerprints, as
        /// `openssl x509 -in client.pem -noout -fingerprint -sha256` prints them.
        certificates: Vec<Fingerprint> = Vec::new() => Live,
            example("[\"0d1f0b3bf1a5a5a0c0e9c7f34d7cd1a1f7f5ae1a3ed5cb7a9ff2cc7a1f6bb3e0\"]");
        /// The domains that it may send from.
        sender_domains: Vec<DomainPattern> => Live,
            example("[\"example.org\", \"*.example.org\"]"), rule(not_empty());
        /// How urgent its mail is: "transactional" goes first, "bulk" last. Where it is not set, each message
        /// may say so itself (MT-PRIORITY).
        class: Option<Class> = None => Live, example("\"normal\"");
        /// What becomes of a bare CR or LF in its mail: "reject" refuses the message, "normalize" puts it right.
        line_endings: LineEndings = LineEndings::Reject => Live;
        /// Connections that it may have at once; as many as it likes where it is not set.
        connections: Option<usize> = None => Live, example("20"), if_set(within(1, COUNT_MAX));
        /// Messages that it may hand over; what it does not use is saved up for a minute. No limit where it is
        /// not set.
        rate: Option<Rate> = None => Live, example("\"600/m\"");
    }
}

choice! {
    /// What becomes of bare CR and LF in a client's mail.
    LineEndings { Reject = "reject", Normalize = "normalize" }
}

section! {
    /// What a client may cost. Sessions that are under way keep the limits they began with.
    LimitsSection {
        /// The largest message that is taken.
        message_size: Size = Size(session().message_max_octets) => Live,
            rule(at_least(Size(64 << 10)).because("RFC 5321"));
        /// Recipients of one message.
        recipients: usize = session().recipients_max => Live, rule(within(100, COUNT_MAX).because("RFC 5321"));
        /// Connections of all clients at once.
        connections: usize = ConnectionLimits::default().total_max => Live, rule(within(1, COUNT_MAX));
        /// Connections from one address at once.
        connections_per_address: usize = ConnectionLimits::default().per_address_max => Live,
            rule(within(1, COUNT_MAX));
        /// The longest line of content.
        line_length: Size = Size(session().text_line_max_octets as u64) => Live,
            rule(at_least(Size(1000)).because("RFC 5321"));
        /// Commands that were refused or malformed, before the session is ended; a message that is taken
        /// forgives them.
        errors: u32 = session().errors_max => Live, rule(at_least(1));
        /// Commands that do not exist, before the session is ended.
        unknown_commands: u32 = session().unknown_commands_max => Live, rule(at_least(1));
        /// Commands that made no sense where they came, before the session is ended.
        commands_out_of_order: u32 = session().out_of_order_max => Live, rule(at_least(1));
        /// Commands that lead to nothing (NOOP, RSET, VRFY and the like) between two messages, before the session
        /// is ended.
        idle_commands: u32 = session().idle_commands_max => Live, rule(at_least(1));
        /// How long a client may take for a whole command: a trickle of octets does not renew it.
        command_timeout: Span = Span(Patience::default().command) => Live;
        /// How long it may take for more content.
        content_timeout: Span = Span(Patience::default().content) => Live;
        /// How much content must come in a second, over the message as a whole.
        content_per_second: Size = Size(Patience::default().content_octets_per_second) => Live;
    }
}

section! {
    /// The certificates that the relay shows, and the roots by which it judges others'. A reload reads the files
    /// again.
    TlsSection {
        certificates: Vec<CertificateSection>;
        policies: Vec<TlsPolicySection>;
        reports: TlsReportsSection;
        /// How often it is looked whether the files of certificates have changed; those that have are shown.
        watch_interval: Span = Span(Duration::from_secs(60)) => Live;
        /// PEM files of roots beside the public ones.
        extra_ca: Vec<RootsFile> = Vec::new() => Live, example("[\"/etc/barid/our-ca.pem\"]");
    }
}

section! {
    /// Certificates by ACME (RFC 8555): ordered at the first start, replaced when a third of their life is left, kept in
    /// data_dir/acme. The authority finds the names to be yours by HTTP-01: it looks at http://NAME/, port 80.
    AcmeSection {
        /// The names that get certificates, one each. To name any is to agree to the authority's terms of service. Until
        /// the authority has signed, clients are shown a certificate that nobody vouches for.
        domains: Vec<Domain> = Vec::new() => Live, example("[\"mx.example.org\"]"), rule(such(
            "be names of hosts, each once", |names| names.iter().enumerate().all(|(at, name)| is_host_and_new(name, &names[..at])),
        ));
        /// Where the authority tells of itself.
        directory: String = "https://acme-v02.api.letsencrypt.org/directory".to_owned() => Live,
            rule(such("be the https:// address of a directory", |directory| Https::check(directory).is_ok()));
        /// Whom the authority may write to about your certificates.
        email: Option<Address> = None => Live, example("\"postmaster@example.org\"");
        /// Where the authority's questions are answered, and nothing else. "[::]:80" is for IPv4 and IPv6.
        listen: SocketAddr = ANY_HTTP => Live;
        /// Whether a new certificate is for the key of the former, so that TLSA records of it hold.
        keep_key: bool = true => Live;
    }
}

section! {
    /// A certificate; among several, that for the name which the client asks for (SNI) is shown, or else the
    /// first. Where there is none, one is made and kept in data_dir/tls.
    CertificateSection, check = serves {
        /// The certificate and those of its issuers, in PEM.
        chain: PathBuf => Live, example("\"/etc/barid/fullchain.pem\"");
        /// Its private key, in PEM. Nobody but the relay may read it.
        key: PathBuf => Live, example("\"/etc/barid/key.pem\"");
    }
}

section! {
    /// What the mail hosts of some domains must prove, whatever these publish; the first that matches counts. Where
    /// there is none, a host's DANE records count, or else the domain's MTA-STS policy, or else TLS is used where
    /// it works.
    TlsPolicySection, check = is_whole {
        /// Domains of recipients.
        domains: Vec<DomainPattern> => Live, example("[\"example.net\", \"*.example.net\"]"), rule(not_empty());
        /// "require" demands TLS, and "verify" a certificate for the host's name, where neither DANE nor MTA-STS
        /// demand more. "fingerprint" demands one of `certificates` in place of what the domain publishes.
        /// "opportunistic" and "never" are weaker than what it may publish: use TLS where it works, or not at all.
        mode: TlsMode => Live, example("\"fingerprint\"");
        /// For "fingerprint": the SHA-256 fingerprints of the hosts' certificates.
        certificates: Vec<Fingerprint> = Vec::new() => Live,
            example("[\"0d1f0b3bf1a5a5a0c0e9c7f34d7cd1a1f7f5ae1a3ed5cb7a9ff2cc7a1f6bb3e0\"]");
    }
}

section! {
    /// Reports to domains that ask for them (TLS-RPT), once a day, on how TLS towards their mail hosts went. By mail they
    /// are sent only where a DKIM key signs for their author, by HTTPS always.
    TlsReportsSection, check = is_of_one_domain {
        /// Whether sessions are counted and reported.
        send: bool = true => Live;
        /// The author of reports by mail; where it is not set, "tls-reports" at the domain of `contact`, or at
        /// `hostname`. Nobody answers.
        from: Option<Address> = None => Live, example("\"tls-reports@example.org\"");
        /// Who reports; `hostname` where it is not set.
        organization: Option<String> = None => Live, example("\"Example Org\"");
        /// Whom to ask about a report, at the domain of `from`, which it is where it is not set.
        contact: Option<Address> = None => Live, example("\"postmaster@example.org\"");
    }
}

choice! {
    /// What mail hosts must prove.
    TlsMode {
        Require = "require", Verify = "verify", Fingerprint = "fingerprint", Opportunistic = "opportunistic",
        Never = "never"
    }
}

section! {
    /// Signatures. Keys are made by `barid dkim generate`; mail is signed by those of the domain in From, or of the
    /// nearest one above it that has any.
    DkimSection {
        /// The domain whose keys sign mail of authors whose domain has none; such mail is not signed where this is
        /// not set.
        fallback_domain: Option<Domain> = None => Live, example("\"example.org\"");
        /// Whether mail for which there is no key is refused.
        required: bool = false => Live;
        /// How often it is looked whether the DNS shows the keys' records.
        check_interval: Span = Span::minutes(60) => Live;
    }
}

section! {
    /// The resolver.
    DnsSection {
        /// The servers that are asked; the system's where there are none, which a reload reads anew.
        servers: Vec<SocketAddr> = Vec::new() => Live, example("[\"192.0.2.53:53\", \"192.0.2.54:53\"]");
        /// Whether answers are validated (DNSSEC), which DANE needs. The servers must pass signatures on; where they do
        /// not, the log and `/healthz` say so, and DANE is off.
        dnssec: bool = true => Live;
        /// Domains of which nothing is validated, with all that is below them: those of your own network that the DNS
        /// of the Internet knows nothing of, or something else.
        insecure_domains: Vec<Domain> = Vec::new() => Live, example("[\"corp.example\", \"internal\"]");
        /// A file with the keys of the root, as DNSKEY records; those of the Internet where it is not set.
        trust_anchor: Option<AnchorFile> = None => Live, example("\"/etc/barid/root.key\"");
    }
}

section! {
    /// How mail is sent. Attempts that are under way go on as they began.
    DeliverySection {
        /// The port of mail hosts that MX records name.
        port: u16 = 25 => Live, rule(at_least(1));
        /// Whether TLS is used where a server offers it.
        tls: DeliveryTls = DeliveryTls::Opportunistic => Live;
        /// Whether MX records may lead to loopback and link-local addresses.
        allow_loopback: bool = false => Live;
        /// A file of providers and of rules for their replies, which go before those that Barid brings along: see
        /// `barid provider check`.
        provider_data: Option<ProviderData> = None => Live, example("\"/etc/barid/providers.toml\"");
        /// When a receiver that blocks our mail is tried again, with the next message that comes in for it.
        block_probe: Span = Span::minutes(4 * 60) => Live;
        /// The waits after each attempt, give or take 10 %; the last repeats.
        retry: Vec<Span> = vec![Span::minutes(5), Span::minutes(15), Span::minutes(60), Span::minutes(240)] => Live,
            rule(not_empty());
        /// The wait where a server greylists and does not say how long.
        greylisted_retry: Span = Span::minutes(5) => Live;
        /// How long mail is tried before it is given up. Mail that is queued keeps what held when it came in.
        expire_after: Span = Span::minutes(5 * 24 * 60) => Live;
        /// When a sender is told that their mail takes long.
        delay_notice: Span = Span::minutes(4 * 60) => Live;
        /// Connections to one site (one set of mail hosts) at once.
        connections_per_site: usize = 20 => Live, rule(within(1, COUNT_MAX));
        /// Messages to one site; no limit but what the site is found to take where it is not set.
        rate_per_site: Option<Rate> = None => Live, example("\"50/s\"");
        /// Connections to all sites at once.
        connections: usize = 1000 => Live, rule(within(1, COUNT_MAX));
        /// Messages over one connection, before another is opened.
        messages_per_connection: u32 = 1000 => Live, rule(at_least(1));
        /// How long an unused connection is kept.
        idle_timeout: Span = Span(Duration::from_secs(5)) => Live;
        /// How long a connection may take to open.
        connect_timeout: Span = Span(Duration::from_secs(30)) => Live;
    }
}

choice! {
    /// Whether TLS is used where a server offers it.
    DeliveryTls { Opportunistic = "opportunistic", Never = "never" }
}

section! {
    /// Where mail for some domains goes, whatever the DNS says; the first route that matches counts.
    RouteSection {
        /// Which domains.
        domains: Vec<DomainPattern> => Live, example("[\"example.net\", \"*.example.net\"]"), rule(not_empty());
        /// The server that takes their mail.
        via: SocketAddr => Live, example("\"127.0.0.1:2600\"");
    }
}

section! {
    /// A limit for all sites together whose best mail host matches; the first provider that matches counts, and
    /// those that Barid knows come last (`barid provider ls`; one of the same name takes its place). It needs
    /// `connections`, `rate` or `messages_per_connection`.
    ProviderSection, check = limits_something {
        /// Its name.
        name: String => Live, example("\"example-mail\"");
        /// Names of mail hosts.
        mx: Vec<DomainPattern> => Live, example("[\"*.mail.example.com\"]"), rule(not_empty());
        /// Connections at once; 20 where only `rate` is set.
        connections: Option<usize> = None => Live, example("20"), if_set(within(1, COUNT_MAX));
        /// Messages; no limit where it is not set.
        rate: Option<Rate> = None => Live, example("\"100/s\"");
        /// Messages over one connection, where that is less than everywhere.
        messages_per_connection: Option<u32> = None => Live, example("50"), if_set(at_least(1));
    }
}

section! {
    /// A limit for each domain that matches, by itself; the first that matches counts. It needs `connections` or
    /// `rate`.
    DomainLimitSection, check = domain_limits_something {
        /// Domains of recipients.
        domains: Vec<DomainPattern> => Live, example("[\"slow.example\"]"), rule(not_empty());
        /// Connections at once; no limit where it is not set.
        connections: Option<usize> = None => Live, example("2"), if_set(within(1, COUNT_MAX));
        /// Messages; no limit where it is not set.
        rate: Option<Rate> = None => Live, example("\"10/m\"");
    }
}

section! {
    /// How the queue is kept on the disk.
    StoreSection {
        /// The index's page cache; it takes about twice as much memory.
        index_cache: Size = Size(store().index_cache_octets) => Restart,
            rule(within(Size(64 << 10), Size(64 << 30)));
        /// The pieces in which the log is written and freed.
        segment_size: Size = Size(u64::from(store().segments.segment_octets)) => Restart,
            rule(within(Size(1 << 20), Size(1 << 30)));
        /// By how much the log may exceed twice its living octets.
        log_slack: Size = Size(store().writer.log_slack_octets) => Restart,
            rule(within(Size(1 << 20), Size(1 << 40)));
        /// Rows in memory before they go into the index.
        memtable: Size = Size(store().writer.memtable_octets as u64) => Restart,
            rule(within(Size(64 << 10), Size(64 << 20)));
    }
}

fn session() -> Limits {
    Limits::default()
}

fn store() -> Settings {
    Settings::default()
}

/// The whole file.
pub(super) fn described() -> Contents {
    ConfigFile::described()
}

/// Where a setting of this name belongs, which somebody put elsewhere.
pub(super) fn place_of(key: &str) -> Option<String> {
    fn look(contents: &Contents, path: &str, header: &str, key: &str, found: &mut Vec<String>) {
        if contents.fields.iter().any(|field| field.key == key) {
            found.push(header.to_owned());
        }
        for field in &contents.fields {
            let Some(contents) = &field.contents else { continue };
            let path = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
            let header = if contents.is_array { format!("[[{path}]]") } else { format!("[{path}]") };
            look(contents, &path, &header, key, found);
        }
    }
    let mut found = Vec::new();
    look(&described(), "", "the top of the file, before the first table", key, &mut found);
    (!found.is_empty()).then(|| found.join(" or "))
}
