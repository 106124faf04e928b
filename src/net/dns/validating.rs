//! The way of asking that validates: the library's parts, put together with a second look among them.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::caching_client::CachingClient;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _, RetryDnsHandle};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig};

use super::nsec::ITERATIONS_MAX;
use super::proofs::waive;
use super::second_look::{SecondLook, is_insecure};
use super::sifted::Sifted;

/// How long a verdict is remembered.
const VERDICT_KEPT_MAX: Duration = Duration::from_secs(300);
/// Verdicts on sets of records that are remembered, of some 200 octets each.
const VERDICTS_MAX: usize = 8192;

type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// Asks, and validates the answers from the trust anchor down.
#[derive(Clone)]
pub(super) struct Validating {
    client: CachingClient<SecondLook<DnssecDnsHandle<Sifted<Pool>>, Pool>>,
    /// The same servers, of which nothing is validated.
    pool: Pool,
    insecure: Arc<[Name]>,
    hosts: Arc<Hosts>,
    options: DnsRequestOptions,
}

impl Validating {
    pub(super) fn new(
        config: ResolverConfig,
        options: ResolverOpts,
        anchors: Arc<TrustAnchors>,
        insecure: Arc<[Name]>,
    ) -> Result<Self, NetError> {
        let (_, _, servers) = config.into_parts();
        let mut asked = DnsRequestOptions::default();
        (asked.use_edns, asked.edns_set_dnssec_ok) = (true, true);
        asked.edns_payload_len = options.edns_payload_len;
        let (attempts, cached) = (options.attempts, options.cache_size);
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        let pool = RetryDnsHandle::new(pool, attempts);
        let validated = DnssecDnsHandle::with_trust_anchor(Sifted(pool.clone()), anchors)
            .validation_cache_size(VERDICTS_MAX)
            // a TTL is signed, but a verdict must not outlive the signature by more than this
            .positive_validation_ttl(Duration::ZERO..=VERDICT_KEPT_MAX)
            // more are bogus, not insecure: any zone could make others' names so (RFC 9276 3.2)
            .nsec3_iteration_limits(Some(ITERATIONS_MAX), Some(ITERATIONS_MAX));
        Ok(Validating {
            // aliases are part of what is proven
            client: CachingClient::new(
                cached,
                SecondLook { validated, plain: pool.clone(), insecure: insecure.clone() },
                true,
            ),
            pool,
            insecure,
            hosts: Arc::new(Hosts::from_system().unwrap_or_default()),
            options: asked,
        })
    }

    /// The answer, whose records bear their proofs. What this machine's hosts file says is not proven.
    pub(super) async fn lookup(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        let query = Query::query(name, kind);
        match self.hosts.lookup_static_host(&query) {
            Some(found) => Ok(unproven(query, &found)),
            None => {
                let found = self.client.lookup(query.clone(), self.options).await?;
                // the library makes some itself, of which it says nothing (RFC 6761)
                let is_made = is_insecure(&self.insecure, &query.name);
                Ok(if is_made { unproven(query, &found) } else { found })
            }
        }
    }

    /// Whether the servers pass signatures on: those of the root.
    pub(super) async fn passes_signatures(&self) -> Result<bool, NetError> {
        let query = Query::query(Name::root(), RecordType::SOA);
        let answer = self.pool.lookup(query, self.options).first_answer().await?;
        Ok(answer.answers.iter().any(|record| record.record_type() == RecordType::RRSIG))
    }
}

/// An answer of which nothing is proven, and need not be.
fn unproven(query: Query, found: &Lookup) -> Lookup {
    let mut records = found.answers().to_vec();
    waive(&mut records);
    Lookup::new_with_max_ttl(query, records)
}
