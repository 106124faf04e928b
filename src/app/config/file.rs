//! The file format, as it is written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::units::{Rate, Size, Span};
use crate::inbound::{ConnectionLimits, Patience};
use crate::smtp::Limits;
use crate::store::Settings;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) hostname: String,
    pub(super) data_dir: PathBuf,
    #[serde(default, rename = "listener")]
    pub(super) listeners: Vec<ListenerSection>,
    #[serde(default, rename = "client")]
    pub(super) clients: Vec<ClientSection>,
    #[serde(default)]
    pub(super) limits: LimitsSection,
    #[serde(default)]
    pub(super) tls: TlsSection,
    #[serde(default)]
    pub(super) dns: DnsSection,
    #[serde(default)]
    pub(super) delivery: DeliverySection,
    #[serde(default, rename = "route")]
    pub(super) routes: Vec<RouteSection>,
    #[serde(default, rename = "provider")]
    pub(super) providers: Vec<ProviderSection>,
    #[serde(default, rename = "limit")]
    pub(super) domain_limits: Vec<DomainLimitSection>,
    #[serde(default)]
    pub(super) store: StoreSection,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Relay,
    Admin,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerSection {
    pub(super) role: Role,
    pub(super) address: SocketAddr,
    /// Whether STARTTLS is offered, or required.
    #[serde(default)]
    pub(super) tls: ListenerTls,
    /// Networks of proxies that send a PROXY header, version 2.
    #[serde(default)]
    pub(super) proxies: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum ListenerTls {
    Off,
    #[default]
    Offered,
    Required,
}

/// Certificates that we show, and roots by which others' are judged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    pub(super) certificates: Vec<CertificateSection>,
    pub(super) extra_ca: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateSection {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientSection {
    pub(super) name: String,
    #[serde(default)]
    pub(super) networks: Vec<String>,
    /// SHA-256 of certificates, in hexadecimal digits.
    #[serde(default)]
    pub(super) certificates: Vec<String>,
    pub(super) sender_domains: Vec<String>,
    pub(super) class: Option<String>,
    #[serde(default)]
    pub(super) line_endings: LineEndings,
    pub(super) connections: Option<usize>,
    pub(super) rate: Option<Rate>,
}

/// What becomes of bare CR and LF in a client's mail.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum LineEndings {
    #[default]
    Reject,
    Normalize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsSection {
    pub(super) message_size: Size,
    pub(super) recipients: usize,
    pub(super) connections: usize,
    pub(super) connections_per_address: usize,
    pub(super) line_length: Size,
    pub(super) errors: u32,
    pub(super) unknown_commands: u32,
    pub(super) commands_out_of_order: u32,
    pub(super) idle_commands: u32,
    pub(super) command_timeout: Span,
    pub(super) content_timeout: Span,
    pub(super) content_per_second: Size,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let (session, connections) = (Limits::default(), ConnectionLimits::default());
        let patience = Patience::default();
        LimitsSection {
            message_size: Size(session.message_max_octets),
            recipients: session.recipients_max,
            connections: connections.total_max,
            connections_per_address: connections.per_address_max,
            line_length: Size(session.text_line_max_octets as u64),
            errors: session.errors_max,
            unknown_commands: session.unknown_commands_max,
            commands_out_of_order: session.out_of_order_max,
            idle_commands: session.idle_commands_max,
            command_timeout: Span(patience.command),
            content_timeout: Span(patience.content),
            content_per_second: Size(patience.content_octets_per_second),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DnsSection {
    pub(super) servers: Vec<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeliverySection {
    pub(super) port: u16,
    pub(super) tls: DeliveryTls,
    pub(super) allow_loopback: bool,
    pub(super) retry: Vec<Span>,
    pub(super) greylisted_retry: Span,
    pub(super) expire_after: Span,
    pub(super) delay_notice: Span,
    pub(super) connections_per_site: usize,
    pub(super) rate_per_site: Option<Rate>,
    pub(super) connections: usize,
    pub(super) messages_per_connection: u32,
    pub(super) idle_timeout: Span,
    pub(super) connect_timeout: Span,
}

impl Default for DeliverySection {
    fn default() -> Self {
        let minutes = |minutes: u64| Span(Duration::from_secs(60 * minutes));
        let seconds = |seconds: u64| Span(Duration::from_secs(seconds));
        DeliverySection {
            port: 25,
            tls: DeliveryTls::Opportunistic,
            allow_loopback: false,
            retry: vec![minutes(5), minutes(15), minutes(60), minutes(240)],
            greylisted_retry: minutes(5),
            expire_after: minutes(5 * 24 * 60),
            delay_notice: minutes(4 * 60),
            connections_per_site: 20,
            rate_per_site: None,
            connections: 1000,
            messages_per_connection: 1000,
            idle_timeout: seconds(5),
            connect_timeout: seconds(30),
        }
    }
}

/// Whether TLS is used where a server offers it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum DeliveryTls {
    Opportunistic,
    Never,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteSection {
    pub(super) domains: Vec<String>,
    pub(super) via: SocketAddr,
}

/// A limit for all sites together whose best mail host matches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderSection {
    pub(super) name: String,
    pub(super) mx: Vec<String>,
    pub(super) connections: Option<usize>,
    pub(super) rate: Option<Rate>,
}

/// A limit for each domain that matches, by itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DomainLimitSection {
    pub(super) domains: Vec<String>,
    pub(super) connections: Option<usize>,
    pub(super) rate: Option<Rate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreSection {
    pub(super) index_cache: Size,
    pub(super) segment_size: Size,
    pub(super) log_slack: Size,
    pub(super) memtable: Size,
}

impl Default for StoreSection {
    fn default() -> Self {
        let store = Settings::default();
        StoreSection {
            index_cache: Size(store.index_cache_octets),
            segment_size: Size(u64::from(store.segments.segment_octets)),
            log_slack: Size(store.writer.log_slack_octets),
            memtable: Size(store.writer.memtable_octets as u64),
        }
    }
}
