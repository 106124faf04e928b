//! The configuration file: its format, and its translation into each room's settings.
//!
//! Errors name the file, the line and the key, say what is allowed, and come all at once as far as the
//! file can be read.

mod file;
mod units;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::accounts::{Allowance, Client, Clients, DomainPattern};
use crate::inbound::{ConnectionLimits, Patience};
use crate::mail::{Class, ClientName, Domain};
use crate::net::{DnsSettings, Fingerprint, Identity, Roots};
use crate::outbound::{self, Cap, Caps, FixedRoute, RetrySchedule, Routes};
use crate::smtp::{Limits, StartTls};
use crate::store;

pub(super) use units::Span;

use file::{ConfigFile, DeliveryTls, LineEndings, ListenerTls, Role};

/// Where the configuration is looked for.
pub(super) const DEFAULT_PATH: &str = "/etc/barid/barid.toml";

/// Connections to a provider for which only a rate is named.
const PROVIDER_CONNECTIONS: usize = 20;

/// A configuration that makes sense.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) data_dir: PathBuf,
    pub(super) hostname: Domain,
    pub(super) relay_listeners: Vec<RelayListener>,
    pub(super) admin_listeners: Vec<SocketAddr>,
    pub(super) clients: Clients,
    pub(super) limits: Limits,
    pub(super) connections: ConnectionLimits,
    pub(super) patience: Patience,
    pub(super) tls: TlsFiles,
    pub(super) dns: DnsSettings,
    pub(super) outbound: outbound::Settings,
    pub(super) store: store::Settings,
}

/// Where mail is taken, and how.
#[derive(Clone, Debug)]
pub(super) struct RelayListener {
    pub(super) address: SocketAddr,
    pub(super) tls: StartTls,
    pub(super) proxies: Vec<IpNet>,
}

/// Files of TLS.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// Chain and key of each certificate; one is made where there is none.
    pub(super) certificates: Vec<(PathBuf, PathBuf)>,
    /// Roots beside the public ones.
    pub(super) extra_ca: Vec<PathBuf>,
    /// Whether remote servers are spoken to over TLS where they offer it.
    pub(super) is_used: bool,
}

/// What is wrong with a file: everything that could be found.
#[derive(Debug)]
pub(super) struct ConfigFaults {
    file: String,
    faults: Vec<String>,
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let line_end = if number == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}: {fault}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

impl Config {
    /// Reads and checks a file.
    pub(super) fn load(path: &Path) -> Result<Self, ConfigFaults> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigFaults {
            file: name.clone(),
            faults: vec![format!("cannot be read: {error}; name another file with --config")],
        })?;
        Self::parse(&name, &text)
    }

    /// Checks a text; `name` stands for it in messages.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, ConfigFaults> {
        let faults = |faults| ConfigFaults { file: name.to_owned(), faults };
        let file: ConfigFile = toml::from_str(text).map_err(|error| faults(vec![located(text, &error)]))?;
        let mut checker = Checker { text, faults: Vec::new() };
        let config = checker.check(file);
        match config {
            Some(config) if checker.faults.is_empty() => Ok(config),
            _ => Err(faults(checker.faults)),
        }
    }
}

/// A fault of the format, with its line.
fn located(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    format!("line {line}: {}", error.message().trim().replace('\n', "; "))
}

struct Checker<'a> {
    text: &'a str,
    faults: Vec<String>,
}

impl Checker<'_> {
    /// Notes a fault at the line where a value stands.
    fn fault(&mut self, value: &str, key: &str, why: impl fmt::Display) {
        let line = self.text.lines().position(|line| line.contains(value)).map_or(1, |at| at + 1);
        self.faults.push(format!("line {line}: {key}: {why}"));
    }

    fn domain(&mut self, text: &str, key: &str) -> Option<Domain> {
        match Domain::parse(text) {
            Ok(domain) => Some(domain),
            Err(error) => {
                self.fault(
                    text,
                    key,
                    format!("`{text}`: {error}; write a host name such as \"relay.example.org\""),
                );
                None
            }
        }
    }

    fn patterns(&mut self, texts: &[String], key: &str) -> Vec<DomainPattern> {
        let mut patterns = Vec::new();
        for text in texts {
            match DomainPattern::parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.fault(
                    text,
                    key,
                    format!("`{text}`: {error}; write \"example.net\", \"*.example.net\" or \"*\""),
                ),
            }
        }
        patterns
    }

    fn check(&mut self, file: ConfigFile) -> Option<Config> {
        let hostname = self.domain(&file.hostname, "hostname");
        let clients: Vec<Client> = file.clients.iter().filter_map(|client| self.client(client)).collect();
        let routes = file.routes.iter().map(|route| self.route(route)).collect();
        let caps = Caps {
            providers: file.providers.iter().map(|provider| self.provider(provider)).collect(),
            domains: file.domain_limits.iter().map(|limit| self.domain_limit(limit)).collect(),
        };
        let of_role = |role: Role| file.listeners.iter().filter(move |listener| listener.role == role);
        let relay_listeners: Vec<RelayListener> =
            of_role(Role::Relay).map(|listener| self.relay_listener(listener)).collect();
        let admin_listeners = of_role(Role::Admin).map(|listener| listener.address).collect();
        if relay_listeners.is_empty() {
            self.faults.push("no [[listener]] has role = \"relay\"; without one no mail can come in".into());
        }
        if file.clients.is_empty() {
            self.faults.push("no [[client]]; without one nobody may hand mail over".into());
        }
        self.ranges(&file);
        let delivery = file.delivery;
        let retry = RetrySchedule::new(delivery.retry.iter().map(|span| span.0).collect())
            .map(|retry| retry.with_greylisted(delivery.greylisted_retry.0));
        if retry.is_none() {
            self.fault("retry", "delivery.retry", "is empty; write at least one wait such as [\"5m\"]");
        }
        let store = self.store(&file.store);
        let tls = self.tls(&file.tls, delivery.tls);
        let (hostname, retry, store) = (hostname?, retry?, store?);
        Some(Config {
            data_dir: file.data_dir,
            relay_listeners,
            admin_listeners,
            clients: Clients::new(clients),
            limits: Limits {
                message_max_octets: file.limits.message_size.0,
                recipients_max: file.limits.recipients,
                text_line_max_octets: usize::try_from(file.limits.line_length.0).unwrap_or(usize::MAX),
                errors_max: file.limits.errors,
                unknown_commands_max: file.limits.unknown_commands,
                out_of_order_max: file.limits.commands_out_of_order,
                idle_commands_max: file.limits.idle_commands,
            },
            connections: ConnectionLimits {
                total_max: file.limits.connections,
                per_address_max: file.limits.connections_per_address,
            },
            patience: Patience {
                command: file.limits.command_timeout.0,
                content: file.limits.content_timeout.0,
                content_octets_per_second: file.limits.content_per_second.0,
                ..Patience::default()
            },
            tls,
            dns: DnsSettings { servers: file.dns.servers, ..DnsSettings::default() },
            outbound: outbound::Settings {
                hostname: hostname.clone(),
                port: delivery.port,
                allow_loopback: delivery.allow_loopback,
                retry,
                expire_after: delivery.expire_after.0,
                delay_notice_after: Some(delivery.delay_notice.0),
                routes: Routes(routes),
                connections_per_site_max: delivery.connections_per_site,
                rate_per_site_max: delivery.rate_per_site.map(|rate| rate.0),
                caps,
                connections_max: delivery.connections,
                copies_max: 4096,
                urgent_copies_max: 256,
                tick: Duration::from_millis(250),
                look_ups_max: 512,
                domains_max: 2048,
                idle_timeout: delivery.idle_timeout.0,
                connect_timeout: delivery.connect_timeout.0,
                messages_per_connection_max: delivery.messages_per_connection,
            },
            store,
            hostname,
        })
    }

    /// Numbers that would stop everything.
    fn ranges(&mut self, file: &ConfigFile) {
        let (limits, delivery) = (&file.limits, &file.delivery);
        let least = [
            ("message_size", limits.message_size.0, 64 << 10, "the least that RFC 5321 allows is 64KiB"),
            ("recipients", limits.recipients as u64, 100, "the least that RFC 5321 allows is 100"),
            ("connections", limits.connections.min(delivery.connections) as u64, 1, "must be at least 1"),
            ("connections_per_address", limits.connections_per_address as u64, 1, "must be at least 1"),
            ("line_length", limits.line_length.0, 1000, "the least that RFC 5321 allows is 1000B"),
            ("errors", u64::from(limits.errors), 1, "must be at least 1"),
            ("unknown_commands", u64::from(limits.unknown_commands), 1, "must be at least 1"),
            ("commands_out_of_order", u64::from(limits.commands_out_of_order), 1, "must be at least 1"),
            ("idle_commands", u64::from(limits.idle_commands), 1, "must be at least 1"),
            ("port", u64::from(delivery.port), 1, "must be at least 1"),
            ("connections_per_site", delivery.connections_per_site as u64, 1, "must be at least 1"),
            ("messages_per_connection", u64::from(delivery.messages_per_connection), 1, "must be at least 1"),
        ];
        for (key, value, least, why) in least {
            if value < least {
                self.fault(key, key, why);
            }
        }
        for client in &file.clients {
            let is_known = !(client.networks.is_empty() && client.certificates.is_empty());
            if !is_known || client.sender_domains.is_empty() {
                let why = "without networks or certificates, and sender_domains, nobody may send";
                self.fault(&client.name, "client", why);
            }
            if client.connections == Some(0) {
                self.fault("connections = 0", "client.connections", "must be at least 1");
            }
        }
    }

    fn client(&mut self, client: &file::ClientSection) -> Option<Client> {
        let name = ClientName::parse(&client.name);
        if name.is_none() || client.name == ClientName::own().as_str() {
            self.fault(&client.name, "client.name", format!(
                "`{}` is no client name; up to {} letters, digits and signs without spaces, and not `barid`",
                client.name,
                ClientName::MAX_OCTETS
            ));
        }
        let networks = self.networks(&client.networks, "client.networks");
        let certificates = client
            .certificates
            .iter()
            .filter_map(|text| self.fingerprint(text, "client.certificates"))
            .collect();
        let sender_domains = self.patterns(&client.sender_domains, "client.sender_domains");
        let class = client.class.as_deref().map(|text| self.class(text));
        Some(Client {
            name: name?,
            networks,
            sender_domains,
            class: class.unwrap_or_default(),
            certificates,
            normalizes: client.line_endings == LineEndings::Normalize,
            connections_max: client.connections,
            allowance: client.rate.map(|rate| Allowance::new(rate.0)),
        })
    }

    fn networks(&mut self, texts: &[String], key: &str) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in texts {
            match text.parse().or_else(|_| text.parse::<IpAddr>().map(Into::into)) {
                Ok(network) => networks.push(network),
                Err(_) => self.fault(
                    text,
                    key,
                    format!(
                        "`{text}` is no network; write \"192.0.2.0/24\", \"2001:db8::/32\" or an address"
                    ),
                ),
            }
        }
        networks
    }

    fn fingerprint(&mut self, text: &str, key: &str) -> Option<Fingerprint> {
        let known = Fingerprint::parse(text);
        if known.is_none() {
            let remedy = "`openssl x509 -in client.pem -noout -fingerprint -sha256` prints it";
            self.fault(
                text,
                key,
                format!("`{text}` is no SHA-256 fingerprint of 64 hexadecimal digits; {remedy}"),
            );
        }
        known
    }

    fn relay_listener(&mut self, listener: &file::ListenerSection) -> RelayListener {
        RelayListener {
            address: listener.address,
            tls: match listener.tls {
                ListenerTls::Off => StartTls::Off,
                ListenerTls::Offered => StartTls::Offered,
                ListenerTls::Required => StartTls::Required,
            },
            proxies: self.networks(&listener.proxies, "listener.proxies"),
        }
    }

    /// Looks at the files too: a relay that does not start for them is found out before it is restarted.
    fn tls(&mut self, section: &file::TlsSection, delivery: DeliveryTls) -> TlsFiles {
        for file::CertificateSection { chain, key } in &section.certificates {
            if let Err(error) = Identity::from_files(chain, key) {
                self.fault(&chain.display().to_string(), "tls.certificates", error);
            }
        }
        if let (Some(first), Err(error)) = (section.extra_ca.first(), Roots::with_files(&section.extra_ca)) {
            self.fault(&first.display().to_string(), "tls.extra_ca", error);
        }
        let pair = |pair: &file::CertificateSection| (pair.chain.clone(), pair.key.clone());
        TlsFiles {
            certificates: section.certificates.iter().map(pair).collect(),
            extra_ca: section.extra_ca.clone(),
            is_used: delivery == DeliveryTls::Opportunistic,
        }
    }

    fn store(&mut self, section: &file::StoreSection) -> Option<store::Settings> {
        let mut settings =
            store::Settings { index_cache_octets: section.index_cache.0, ..store::Settings::default() };
        let segment = section.segment_size.0;
        match u32::try_from(segment) {
            Ok(octets) if (1 << 20..=1 << 30).contains(&octets) => settings.segments.segment_octets = octets,
            _ => self.fault("segment_size", "store.segment_size", "must lie between 1MiB and 1GiB"),
        }
        settings.segments.ballast_octets = 2 * segment;
        settings.writer.log_slack_octets = section.log_slack.0;
        match usize::try_from(section.memtable.0) {
            Ok(octets) if (64 << 10..=64 << 20).contains(&octets) => settings.writer.memtable_octets = octets,
            _ => self.fault("memtable", "store.memtable", "must lie between 64KiB and 64MiB"),
        }
        settings.writer.replay_octets = 2 * segment;
        Some(settings)
    }

    fn class(&mut self, text: &str) -> Option<Class> {
        let class = Class::ALL.into_iter().find(|class| class.as_str() == text);
        if class.is_none() {
            let why = format!("`{text}` is no class; one of transactional, normal, bulk");
            self.fault(text, "client.class", why);
        }
        class
    }

    fn cap(&mut self, key: &str, connections: Option<usize>, rate: Option<units::Rate>) -> Cap {
        if connections == Some(0) {
            self.fault("connections = 0", &format!("{key}.connections"), "must be at least 1");
        }
        if connections.is_none() && rate.is_none() {
            self.faults.push(format!("a [[{key}]] limits nothing; give it `connections` or `rate`"));
        }
        Cap { connections_max: connections, per_second: rate.map(|rate| rate.0) }
    }

    fn provider(&mut self, provider: &file::ProviderSection) -> (Box<str>, Vec<DomainPattern>, Cap) {
        let mx = self.patterns(&provider.mx, "provider.mx");
        let mut cap = self.cap("provider", provider.connections, provider.rate);
        // who waits for time alone would keep connections that others want
        cap.connections_max.get_or_insert(PROVIDER_CONNECTIONS);
        (provider.name.as_str().into(), mx, cap)
    }

    fn domain_limit(&mut self, limit: &file::DomainLimitSection) -> (Vec<DomainPattern>, Cap) {
        let domains = self.patterns(&limit.domains, "limit.domains");
        (domains, self.cap("limit", limit.connections, limit.rate))
    }

    fn route(&mut self, route: &file::RouteSection) -> FixedRoute {
        FixedRoute { domains: self.patterns(&route.domains, "route.domains"), via: route.via }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
hostname = "relay.example.org"
data_dir = "/var/lib/barid"
[[listener]]
role = "relay"
address = "127.0.0.1:2525"
[[listener]]
role = "admin"
address = "127.0.0.1:8025"
[[client]]
name = "apps"
networks = ["127.0.0.0/8", "::1/128"]
sender_domains = ["*"]
"#;

    #[test]
    fn a_small_file_gets_the_stated_defaults() {
        let config = Config::parse("f", SMALL).expect("is right");
        assert_eq!(config.limits.message_max_octets, 50 << 20);
        assert_eq!((config.limits.recipients_max, config.connections.per_address_max), (1000, 200));
        assert_eq!((config.outbound.port, config.outbound.allow_loopback), (25, false));
        assert_eq!(config.outbound.expire_after.as_secs(), 5 * 86_400);
        assert!(config.clients.at("127.0.0.9".parse().expect("ip")).is_some());
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_remedy() {
        let wrong = SMALL
            .replace("relay.example.org", "relay..example")
            .replace("127.0.0.0/8", "127.0.0.0/99")
            .replace("\"*\"", "\"*bad\"")
            .replace("\"apps\"", "\"my apps\"");
        let told = Config::parse("f.toml", &wrong).expect_err("is wrong").to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        for (line, start) in lines.iter().zip([
            "f.toml: line 2: hostname: `relay..example`",
            "f.toml: line 11: client.name: `my apps`",
            "f.toml: line 12: client.networks: `127.0.0.0/99`",
            "f.toml: line 13: client.sender_domains: `*bad`",
        ]) {
            assert!(line.starts_with(start), "{line} does not start with {start}");
        }
    }

    #[test]
    fn numbers_that_would_stop_everything_are_faults() {
        for (more, want) in [
            (
                "[delivery]\nmessages_per_connection = 0\n",
                "f: line 15: messages_per_connection: must be at least 1",
            ),
            ("[delivery]\nconnections = 0\n", "f: line 15: connections: must be at least 1"),
            ("[limits]\nmessage_size = \"1B\"\n", "f: line 15: message_size: the least"),
        ] {
            let told = Config::parse("f", &format!("{SMALL}{more}")).expect_err("is wrong").to_string();
            assert!(told.starts_with(want), "{told}");
        }
    }

    #[test]
    fn a_fault_of_the_format_names_its_line() {
        for (text, want) in [
            ("hostname = 5", "f: line 1: "),
            ("hostname = \"a.example\"\nhostnam = 1\n", "f: line 2: unknown field"),
            (
                "hostname = \"a.example\"\ndata_dir = \"/x\"\n[delivery]\nretry = [\"5 minutes\"]\n",
                "f: line 4: `5 minutes` is no time span",
            ),
        ] {
            let told = Config::parse("f", text).expect_err("is wrong").to_string();
            assert!(told.starts_with(want), "{told}");
        }
    }

    #[test]
    fn every_setting_in_the_readme_is_one() {
        let readme = include_str!("../../../README.md");
        let blocks = readme.split("```toml").skip(1).filter_map(|rest| rest.split("```").next());
        let text: String = blocks.collect();
        if let Err(faults) = Config::parse("README.md", &text) {
            panic!("{faults}");
        }
    }
}
