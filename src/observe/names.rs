//! Every metric: its name, kind, unit and labels, and what it says.
//!
//! One declaration each, and everything else follows from it: what `/metrics` says of it, the series that
//! begin at zero, `docs/metrics.md`, and the test that each is shown in a dashboard or an alert, or says
//! here why it is not. Labels are bounded; none holds a recipient domain.

use super::metric::{Kind, Label, Metric, Unit, Values};

const fn closed(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Closed(values) }
}

const fn configured(name: &'static str, values: &'static str) -> Label {
    Label { name, values: Values::Configured(values) }
}

const ROLE: Label = closed("role", &["relay"]);
const CLIENT: Label = configured("client", "the names of the configured clients");
const CLASS: Label = closed("class", &["transactional", "normal", "bulk"]);
const PROVIDER: Label = configured("provider", "the names of the configured providers, and `other`");
const DIRECTION: Label = closed("direction", &["in", "out"]);
const TLS_RESULT: Label = closed("result", &["TLSv1.2", "TLSv1.3", "failed"]);
const PROOF: Label = closed("proof", &["clear", "unproven", "pkix", "mta-sts", "fingerprint", "dane"]);
const DEMAND: Label = closed("demand", &["encrypted", "MTA-STS", "verify", "fingerprint", "DANE"]);
const RECEIVER: Label = configured("receiver", "names in the data on providers, and `other`");
const CLOSURE: Label = closed("closure", &["block", "pause"]);
const MEANING: Label = closed(
    "meaning",
    &[
        "rate",
        "reputation",
        "block",
        "authentication",
        "content",
        "unknown-user",
        "mailbox-full",
        "greylist",
        "policy",
        "tls",
        "other",
    ],
);
const NAME: Label = configured("name", "names of the relay's certificates");
const ORDER: Label = closed("result", &["issued", "failed"]);
const REPORT: Label = closed("result", &["mailed", "posted", "failed"]);
const REFUSAL: Label = closed(
    "reason",
    &[
        "relay",
        "sender",
        "rate",
        "connections",
        "proxy",
        "content",
        "header",
        "loop",
        "storage",
        "unsigned",
        "timeout",
        "errors",
        "unknown_commands",
        "out_of_order",
        "idle_commands",
        "length",
        "foreign_protocol",
    ],
);
const HELD: Label = closed("reason", &["block", "damaged", "exported", "operator", "unreadable", "other"]);
const DESTINATION: Label = closed("kind", &["site", "name"]);
const ATTEMPT: Label = closed("outcome", &["delivered", "deferred", "bounced", "lost"]);
const CONNECTION: Label = closed("outcome", &["opened", "reused", "failed"]);
const COPIES: Label = closed("kind", &["any", "urgent"]);
const ANSWER: Label =
    closed("result", &["found", "no_name", "no_records", "server_failed", "timeout", "bogus", "failed"]);
const ALGORITHM: Label = closed("algorithm", &["rsa", "ed25519"]);
const UNSIGNED: Label = closed("outcome", &["taken", "refused"]);
const STAGE: Label = closed("stage", &["published", "waiting", "active", "retiring", "removed"]);
const ASTRAY: Label = closed("reason", &["missing", "other", "unanswered", "unreadable"]);
const CHECK: Label = closed("result", &["pass", "fail", "unsure"]);
const ACTOR: Label = closed("actor", &["domain", "path"]);
const VERSION: Label = configured("version", "this program's version");

macro_rules! reason {
    () => {
        None
    };
    ($reason:literal) => {
        Some($reason)
    };
}

macro_rules! metrics {
    ($($section:literal {
        $($kind:ident $const:ident = $name:literal [$($label:ident),*] $unit:ident: $help:literal
            $(; unshown $reason:literal)?,)*
    })*) => {
        $($(#[doc = $help] pub const $const: &str = $name;)*)*

        /// All of them, section by section.
        pub const METRICS: &[Metric] = &[$($(Metric {
            name: $name,
            section: $section,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            meaning: $help,
            unshown: reason!($($reason)?),
        },)*)*];
    };
}

/// Tells the recorder of all metrics; series that are known beforehand begin at zero.
pub fn introduce() {
    METRICS.iter().for_each(Metric::introduce);
}

metrics! {
    "Mail that comes in" {
        Counter CONNECTIONS = "barid_inbound_connections_total" [ROLE] Count:
            "Connections taken, by listener role.",
        Gauge CONNECTIONS_OPEN = "barid_inbound_connections_open" [ROLE] Count:
            "Connections open now, by listener role.",
        Counter ACCEPTED = "barid_accepted_messages_total" [CLIENT, CLASS] Count:
            "Messages accepted: durable, and answered 250.",
        Counter ACCEPTED_BYTES = "barid_accepted_bytes_total" [CLIENT] Bytes:
            "Octets of accepted messages.",
        Histogram ACCEPT_SECONDS = "barid_accept_seconds" [] Seconds:
            "Time from the end of a message's content until its 250 could be sent: mostly the wait for the disk.",
        Counter REFUSED = "barid_refused_total" [REFUSAL] Count:
            "Connections, commands and messages refused.",
        Counter TLS_HANDSHAKES = "barid_tls_handshakes_total" [DIRECTION, TLS_RESULT] Count:
            "TLS handshakes: the version agreed on, or failed.",
    }

    "Mail that waits" {
        Gauge QUEUED = "barid_queued_messages" [] Count:
            "Messages in the queue, one for each recipient domain: waiting, being tried or held.",
        Gauge WAITING = "barid_waiting_messages" [CLASS] Count:
            "Messages that wait or are being tried; looked at every few seconds.",
        Gauge WAITING_OLDEST_SECONDS = "barid_waiting_oldest_seconds" [CLASS] Seconds:
            "How long the oldest of these has been in the queue, rounded down to 16 seconds; 0 where there is none.",
        Gauge HELD_MESSAGES = "barid_held_messages" [HELD] Count:
            "Messages that are held: damaged, or with an envelope that does not read. Counted up to 10,000 a reason.",
        Gauge DESTINATIONS_DOWN = "barid_destinations_down" [DESTINATION] Count:
            "Sets of mail hosts that do not answer, and domains whose way the DNS does not tell: mail for them waits. Counted up to 10,000 a kind.",
    }

    "Mail that goes out" {
        Counter ATTEMPTS = "barid_attempts_total" [PROVIDER, ATTEMPT] Count:
            "Transactions with remote servers: all recipients taken, some deferred, some bounced, or the connection lost before the end.",
        Gauge ATTEMPTS_OPEN = "barid_attempts_open" [] Count:
            "Messages in memory to be tried, being tried, or whose result is not durable yet.",
        Counter DELIVERED = "barid_delivered_recipients_total" [] Count:
            "Recipients that a remote server took responsibility for.",
        Counter DEFERRED = "barid_deferred_recipients_total" [] Count:
            "Recipients put off after an attempt.",
        Counter BOUNCED = "barid_bounced_recipients_total" [] Count:
            "Recipients given up for good.",
        Histogram DELIVERY_SECONDS = "barid_delivery_seconds" [CLASS] Seconds:
            "Time from acceptance to the remote server's final 250.",
        Counter REPLIES = "barid_refusals_total" [RECEIVER, MEANING] Count:
            "Refusals of recipients by remote servers, for now or for good, by who runs the server and by what they mean.",
        Counter CLOSURES = "barid_receiver_closures_total" [RECEIVER, CLOSURE] Count:
            "Times that refusals closed the way to a receiver: paused it, or found all mail blocked.",
        Gauge RECEIVERS_CLOSED = "barid_receivers_closed" [CLOSURE] Count:
            "Receivers that keep our mail away: it waits out a pause, or is held until a block is lifted.",
        Counter REMOTE_CONNECTIONS = "barid_outbound_connections_total" [CONNECTION] Count:
            "Connections to remote servers: opened, taken over from an earlier session, or not to be had.",
        Gauge REMOTE_CONNECTIONS_OPEN = "barid_outbound_connections_open" [] Count:
            "Connections to remote servers that are in use now.",
        Gauge REMOTE_CONNECTIONS_IDLE = "barid_outbound_connections_idle" [] Count:
            "Connections to remote servers that are kept for the next message to their host.",
        Gauge REMOTE_CONNECTIONS_LIMIT = "barid_outbound_connections_limit" [] Count:
            "Connections to remote servers that there may be: delivery.connections.",
        Histogram CONNECTION_MESSAGES = "barid_outbound_connection_messages" [] Count:
            "Messages sent over one connection, of those that were used.",
        Gauge WINDOWS = "barid_site_windows_connections" [] Count:
            "Connections that sites with an active path would take together, as far as is known.",
        Gauge COPIES_USED = "barid_copies_in_memory" [COPIES] Count:
            "Places for messages in memory that are taken: credits. Urgent ones have a few of their own.",
        Gauge COPIES_LIMIT = "barid_copies_in_memory_limit" [COPIES] Count:
            "Places for messages in memory that there are.",
        Gauge LOOK_UPS = "barid_route_look_ups_open" [] Count:
            "Domains whose way is being looked up.",
        Gauge RESOLVER_DOUBTED = "barid_resolver_doubted" [] Boolean:
            "1 while the DNS denies everything, so that nothing is bounced for a name that does not exist.",
        Gauge CLOCK_JUMPED = "barid_clock_jumped" [] Boolean:
            "1 while wall time is not believed because it was set by more than an hour: nothing is given up for its age.",
        Gauge BREAKERS_OPEN = "barid_breakers_open" [] Count:
            "Kinds of refusal that come from so many domains at once that they are not believed.",
        Gauge DNSSEC_MISSING = "barid_dnssec_missing" [] Count:
            "1 where answers of the DNS should be validated and cannot be, so that DANE is off; 0 else.",
        Counter CONNECTIONS_PROVEN = "barid_connections_proven_total" [PROOF] Count:
            "Connections opened for mail that goes out, by what the host has shown of who it is.",
        Counter HOSTS_UNPROVEN = "barid_hosts_unproven_total" [DEMAND] Count:
            "Connections that no mail went over because the host did not prove what it must, by what demanded it.",
        Gauge CERTIFICATE_EXPIRY = "barid_certificate_expiry_timestamp_seconds" [NAME] Seconds:
            "When a certificate that clients are shown ends, since 1970; by the first name that it is for. Those that nobody vouches for are not told.",
        Gauge CERTIFICATES_AILING = "barid_certificates_ailing" [] Count:
            "Certificates with which something is wrong: ended, or about to; or not had yet, so that a stand-in is shown; and challenges that cannot be answered.",
        Counter CERTIFICATES_ORDERED = "barid_certificates_ordered_total" [ORDER] Count:
            "Certificates ordered by ACME, by whether they were issued.",
        Counter TLS_REPORTS = "barid_tls_reports_total" [REPORT] Count:
            "Reports on TLS to domains that ask for them, by what became of each at one address: mailed, posted by HTTPS, or failed for now.",
        Counter DNS_LOOK_UPS = "barid_dns_look_ups_total" [ANSWER] Count:
            "Questions to the resolver, answers from its cache included.",
        Histogram DNS_SECONDS = "barid_dns_seconds" [] Seconds:
            "Time until the resolver's answer or its failure. Answers from its cache take less than a millisecond.",
    }

    "Signatures" {
        Counter DKIM_SIGNED = "barid_dkim_signatures_total" [ALGORITHM] Count:
            "DKIM signatures made; a message has one for each algorithm that its domain has keys of.",
        Counter DKIM_UNSIGNED = "barid_dkim_unsigned_total" [UNSIGNED] Count:
            "Messages that no DKIM key signed: taken because none is for their author's domain, or refused.",
        Gauge DKIM_KEYS = "barid_dkim_keys" [STAGE] Count:
            "DKIM keys by how far they have come: published waits for the DNS to show it, waiting for everybody to see that; active signs; retiring is kept for mail that is under way; of removed ones the record is still there.",
        Gauge DKIM_ASTRAY = "barid_dkim_keys_astray" [ASTRAY] Count:
            "Active DKIM keys that the DNS does not show (missing), shows otherwise (other), or about which it has not answered twice in a row (unanswered): signatures by them fail. Unreadable ones sign until the next start.",
        Counter DKIM_CHECKS = "barid_dkim_checks_total" [CHECK] Count:
            "Signatures of messages taken at random, verified by what the DNS shows now.",
        Histogram CPU_WAIT_SECONDS = "barid_cpu_wait_seconds" [] Seconds:
            "How long work that takes long (signing) waited for a thread of its own.",
    }

    "Actors" {
        Gauge DOMAINS_ACTIVE = "barid_domains_active" [] Count:
            "Domain actors alive.",
        Gauge PATHS_ACTIVE = "barid_paths_active" [] Count:
            "Path actors alive, one for each set of mail hosts.",
        Counter RESTARTS = "barid_actor_restarts_total" [ACTOR] Count:
            "Actors that ended unasked, which is a fault of the program; each is built anew when it is needed.",
        Counter PANICS = "barid_panics_total" [] Count:
            "Panics, wherever in the process: each is a fault of the program, and costs no more than the task it was in.",
        Histogram MANAGER_DELAY_SECONDS = "barid_manager_delay_seconds" [] Seconds:
            "How long a beat waited until the manager came to it: the load of the thread that all actors share.",
    }

    "Store and disk" {
        Histogram STORE_GROUP_BATCHES = "barid_store_group_batches" [] Count:
            "Batches made durable by one sync.",
        Histogram STORE_COMMIT_SECONDS = "barid_store_commit_seconds" [] Seconds:
            "Time from gathering a group of batches until it was durable and visible.",
        Counter STORE_WRITTEN_BYTES = "barid_store_written_bytes_total" [] Bytes:
            "Octets appended to the log.",
        Gauge STORE_LOG_BYTES = "barid_store_log_bytes" [] Bytes:
            "Octets that the log's segments take on the disk.",
        Gauge STORE_LIVE_BYTES = "barid_store_live_bytes" [] Bytes:
            "Octets of rows and bodies that live in the log.",
        Gauge STORE_INDEX_BYTES = "barid_store_index_bytes" [] Bytes:
            "Octets that the index takes on the disk.",
        Gauge STORE_FAILING = "barid_store_failing" [] Boolean:
            "1 while the store cannot make mail durable: clients are answered 451 or 452.",
        Counter STORE_FAILURES = "barid_store_failures_total" [] Count:
            "Times that the store began to fail.",
        Gauge DISK_FREE_BYTES = "barid_disk_free_bytes" [] Bytes:
            "Octets that may still be written on the file system of the data directory.",
        Gauge DISK_BYTES = "barid_disk_size_bytes" [] Bytes:
            "Size of the file system of the data directory.",
    }

    "Process" {
        Counter LOG_LINES_DROPPED = "barid_log_lines_dropped_total" [] Count:
            "Log lines dropped because the log could not be written fast enough.",
        Gauge BUILD_INFO = "barid_build_info" [VERSION] Boolean:
            "Always 1; the labels say what is running.",
        Gauge MEMORY_ALLOCATED_BYTES = "barid_memory_allocated_bytes" [] Bytes:
            "Octets that the program holds in memory; what the process takes beyond that is the allocator's.",
        Gauge RESIDENT_MEMORY_BYTES = "process_resident_memory_bytes" [] Bytes:
            "Memory that the process takes of the machine's.",
        Gauge VIRTUAL_MEMORY_BYTES = "process_virtual_memory_bytes" [] Bytes:
            "Addresses that the process has reserved."; unshown "reserving costs nothing; resident memory is what counts",
        Gauge VIRTUAL_MEMORY_MAX_BYTES = "process_virtual_memory_max_bytes" [] Bytes:
            "Addresses that the process may reserve."; unshown "hardly ever limited",
        Counter CPU_SECONDS = "process_cpu_seconds_total" [] Seconds:
            "CPU time of all threads, in whole seconds.",
        Gauge OPEN_FDS = "process_open_fds" [] Count:
            "Open file descriptors: each connection is one.",
        Gauge MAX_FDS = "process_max_fds" [] Count:
            "Open file descriptors that there may be.",
        Gauge THREADS = "process_threads" [] Count:
            "Threads of the process.",
        Gauge START_SECONDS = "process_start_time_seconds" [] Seconds:
            "When the process was started.",
    }
}
