//! From the settings as they are written to those of each room.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::schema::{
    AcmeSection, CertificateSection, ClientSection, ConfigFile, DeliveryTls, DomainLimitSection,
    LimitsSection, LineEndings, ListenerSection, ListenerTls, ProviderSection, Role, RouteSection,
    StoreSection, TlsMode, TlsPolicySection,
};
use super::units::Rate;
use super::{Config, Dkim, RelayListener, TlsFiles};
use crate::accounts::{Allowance, Client, Clients, DomainPattern};
use crate::app::certificates::AcmeSettings;
use crate::dsn::{Book, Classifier, Receiver};
use crate::inbound::{ConnectionLimits, Patience};
use crate::mail::Address;
use crate::net::{AuthoritySettings, DnsSettings};
use crate::outbound::{self, Cap, Caps, FixedRoute, RetrySchedule, Routes, TlsOrder, TlsOrders};
use crate::reports::ReportSettings;
use crate::smtp::{Limits, StartTls};
use crate::store;
use crate::transport::Mode;

/// Connections to a provider for which only a rate is named.
const PROVIDER_CONNECTIONS: usize = 20;

/// Turns the file into what each room wants.
pub(super) fn translate(file: ConfigFile) -> Option<Config> {
    let (limits, delivery) = (&file.limits, &file.delivery);
    let retry = RetrySchedule::new(delivery.retry.iter().map(|span| span.0).collect())?
        .with_greylisted(delivery.greylisted_retry.0);
    let classifier = Classifier::new(match &delivery.provider_data {
        Some(own) => Book::embedded().ok()?.under(own.book.clone()),
        None => Book::embedded().ok()?,
    });
    let route = |route: &RouteSection| FixedRoute { domains: route.domains.clone(), via: route.via };
    let is_of = |role: Role| move |listener: &&ListenerSection| listener.role == role;
    Some(Config {
        relay_listeners: file.listener.iter().filter(is_of(Role::Relay)).map(relay_listener).collect(),
        admin_listeners: file.listener.iter().filter(is_of(Role::Admin)).map(|it| it.address).collect(),
        clients: Clients::new(file.client.iter().map(client).collect()),
        limits: session_limits(limits),
        connections: ConnectionLimits {
            total_max: limits.connections,
            per_address_max: limits.connections_per_address,
        },
        patience: Patience {
            command: limits.command_timeout.0,
            content: limits.content_timeout.0,
            content_octets_per_second: limits.content_per_second.0,
            ..Patience::default()
        },
        tls: TlsFiles {
            certificates: file.tls.certificates.iter().map(pair).collect(),
            watch_interval: file.tls.watch_interval.0,
            extra_ca: file.tls.extra_ca.iter().map(|file| file.0.clone()).collect(),
        },
        acme: acme(&file.acme),
        dkim: Dkim {
            fallback: file.dkim.fallback_domain.clone(),
            is_required: file.dkim.required,
            check_interval: file.dkim.check_interval.0,
        },
        dns: DnsSettings {
            servers: file.dns.servers.clone(),
            validates: file.dns.dnssec,
            insecure_domains: file.dns.insecure_domains.clone(),
            trust_anchor: file.dns.trust_anchor.as_ref().map(|file| file.0.clone()),
            ..DnsSettings::default()
        },
        reports: reports(&file),
        outbound: outbound::Settings {
            hostname: file.hostname.clone(),
            port: delivery.port,
            allow_loopback: delivery.allow_loopback,
            retry,
            block_probe: delivery.block_probe.0,
            expire_after: delivery.expire_after.0,
            delay_notice_after: Some(delivery.delay_notice.0),
            routes: Routes(file.route.iter().map(route).collect()),
            tls: TlsOrders {
                domains: file.tls.policies.iter().map(tls_order).collect(),
                others: (delivery.tls == DeliveryTls::Never).then_some(Mode::Never),
            },
            connections_per_site_max: delivery.connections_per_site,
            rate_per_site_max: delivery.rate_per_site.map(|rate| rate.0),
            caps: caps(&file, classifier.book()),
            connections_max: delivery.connections,
            copies_max: 4096,
            urgent_copies_max: 256,
            tick: Duration::from_millis(250),
            look_ups_max: 512,
            domains_max: 2048,
            idle_timeout: delivery.idle_timeout.0,
            connect_timeout: delivery.connect_timeout.0,
            messages_per_connection_max: delivery.messages_per_connection,
            classifier,
        },
        store: store(&file.store),
        data_dir: file.data_dir,
        hostname: file.hostname,
        settings: Vec::new(),
        file: None,
        files_max: None,
    })
}

fn session_limits(limits: &LimitsSection) -> Limits {
    Limits {
        message_max_octets: limits.message_size.0,
        recipients_max: limits.recipients,
        text_line_max_octets: usize::try_from(limits.line_length.0).unwrap_or(usize::MAX),
        errors_max: limits.errors,
        unknown_commands_max: limits.unknown_commands,
        out_of_order_max: limits.commands_out_of_order,
        idle_commands_max: limits.idle_commands,
    }
}

fn relay_listener(listener: &ListenerSection) -> RelayListener {
    RelayListener {
        address: listener.address,
        tls: match listener.tls {
            ListenerTls::Off => StartTls::Off,
            ListenerTls::Offered => StartTls::Offered,
            ListenerTls::Required => StartTls::Required,
        },
        proxies: listener.proxies.clone(),
    }
}

fn client(client: &ClientSection) -> Client {
    Client {
        name: client.name.clone(),
        networks: client.networks.clone(),
        sender_domains: client.sender_domains.clone(),
        class: client.class,
        certificates: client.certificates.clone(),
        normalizes: client.line_endings == LineEndings::Normalize,
        connections_max: client.connections,
        allowance: client.rate.map(|rate| Arc::new(Allowance::new(rate.0))),
    }
}

/// Nothing where it is not wanted; or where the host's name is so long that no address can be made of it.
fn reports(file: &ConfigFile) -> Option<ReportSettings> {
    let section = &file.tls.reports;
    let domain = section.contact.as_ref().map_or(&file.hostname, Address::domain);
    let usual = || Address::parse(&format!("tls-reports@{domain}")).ok();
    let from = section.send.then(|| section.from.clone().or_else(usual))??;
    Some(ReportSettings {
        organization: section.organization.as_deref().unwrap_or(file.hostname.as_str()).into(),
        contact: section.contact.as_ref().unwrap_or(&from).to_string().into(),
        from,
    })
}

fn tls_order(policy: &TlsPolicySection) -> TlsOrder {
    let mode = match policy.mode {
        TlsMode::Require => Mode::Require,
        TlsMode::Verify => Mode::Verify,
        TlsMode::Fingerprint => Mode::Fingerprint(policy.certificates.clone().into()),
        TlsMode::Opportunistic => Mode::Opportunistic,
        TlsMode::Never => Mode::Never,
    };
    TlsOrder { domains: policy.domains.clone(), mode }
}

fn acme(section: &AcmeSection) -> AcmeSettings {
    AcmeSettings {
        authority: AuthoritySettings {
            directory: section.directory.clone(),
            email: section.email.as_ref().map(ToString::to_string),
        },
        domains: section.domains.clone(),
        listen: section.listen,
        keeps_keys: section.keep_key,
    }
}

fn pair(section: &CertificateSection) -> (PathBuf, PathBuf) {
    (section.chain.clone(), section.key.clone())
}

fn cap(connections: Option<usize>, rate: Option<Rate>) -> Cap {
    Cap { connections_max: connections, per_second: rate.map(|rate| rate.0), messages_per_connection: None }
}

/// The limits that are configured; then those that are good for receivers that are known.
fn caps(file: &ConfigFile, book: &Book) -> Caps {
    let provider = |provider: &ProviderSection| {
        // who waits for time alone would keep connections that others want
        let connections = provider.connections.or(Some(PROVIDER_CONNECTIONS));
        let messages_per_connection = provider.messages_per_connection;
        let cap = Cap { messages_per_connection, ..cap(connections, provider.rate) };
        (provider.name.as_str().into(), provider.mx.clone(), cap)
    };
    let is_configured = |name: &str| file.provider.iter().any(|provider| provider.name == name);
    let known = book
        .receivers
        .iter()
        .filter(|receiver| !receiver.is_shared && !is_configured(&receiver.name))
        .map(known_cap);
    let limit = |limit: &DomainLimitSection| (limit.domains.clone(), cap(limit.connections, limit.rate));
    Caps {
        providers: file.provider.iter().map(provider).chain(known).collect(),
        domains: file.limit.iter().map(limit).collect(),
    }
}

fn known_cap(receiver: &Receiver) -> (Box<str>, Vec<DomainPattern>, Cap) {
    let mx = receiver.mx.iter().filter_map(|pattern| DomainPattern::parse(pattern).ok());
    let cap = Cap {
        connections_max: receiver.connections.and_then(|connections| usize::try_from(connections).ok()),
        per_second: None,
        messages_per_connection: receiver.messages_per_connection,
    };
    (receiver.name.clone(), mx.collect(), cap)
}

fn store(section: &StoreSection) -> store::Settings {
    let (segment, memtable) = (section.segment_size.0, section.memtable.0);
    let mut settings =
        store::Settings { index_cache_octets: section.index_cache.0, ..store::Settings::default() };
    // both lie within limits that are far below
    settings.segments.segment_octets = u32::try_from(segment).unwrap_or(u32::MAX);
    settings.segments.ballast_octets = 2 * segment;
    settings.writer.log_slack_octets = section.log_slack.0;
    settings.writer.memtable_octets = usize::try_from(memtable).unwrap_or(usize::MAX);
    settings.writer.replay_octets = 2 * segment;
    settings
}
