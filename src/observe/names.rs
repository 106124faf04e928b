//! Every metric by name, with its kind and meaning. Labels are bounded; none holds a recipient domain.

use metrics::{describe_counter, describe_gauge, describe_histogram};

macro_rules! metrics {
    ($($kind:ident $const:ident = $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $const: &str = $name;)*

        /// Tells the recorder what each metric means.
        pub fn describe() {
            $(describe!($kind $const, $help);)*
        }
    };
}

macro_rules! describe {
    (counter $const:ident, $help:literal) => {
        describe_counter!($const, $help)
    };
    (gauge $const:ident, $help:literal) => {
        describe_gauge!($const, $help)
    };
    (histogram $const:ident, $help:literal) => {
        describe_histogram!($const, $help)
    };
}

metrics! {
    histogram STORE_GROUP_BATCHES = "barid_store_group_batches", "Batches made durable by one sync.";
    histogram STORE_COMMIT_SECONDS = "barid_store_commit_seconds", "Time from gathering a group of batches until it was durable and visible.";
    counter STORE_WRITTEN_BYTES = "barid_store_written_bytes_total", "Octets appended to the log.";
    gauge STORE_LOG_BYTES = "barid_store_log_bytes", "Octets that the log's segments take on the disk.";
    gauge STORE_LIVE_BYTES = "barid_store_live_bytes", "Octets of rows and bodies that live in the log.";
    counter CONNECTIONS = "barid_inbound_connections_total", "Connections taken, by listener role.";
    gauge CONNECTIONS_OPEN = "barid_inbound_connections_open", "Connections open now, by listener role.";
    counter ACCEPTED = "barid_accepted_messages_total", "Messages accepted: durable, and answered 250, by client.";
    counter ACCEPTED_BYTES = "barid_accepted_bytes_total", "Octets of accepted messages, by client.";
    counter TLS_HANDSHAKES = "barid_tls_handshakes_total", "TLS handshakes, by direction (in, out) and result: the version agreed on, or failed.";
    counter REFUSED = "barid_refused_total", "Commands and messages refused, by reason.";
    counter DELIVERED = "barid_delivered_recipients_total", "Recipients that a remote server took responsibility for.";
    counter DEFERRED = "barid_deferred_recipients_total", "Recipients put off after an attempt.";
    counter BOUNCED = "barid_bounced_recipients_total", "Recipients given up for good.";
    counter ATTEMPTS = "barid_attempts_total", "Transactions tried with a remote server.";
    histogram DELIVERY_SECONDS = "barid_delivery_seconds", "Time from acceptance to the remote server's final 250.";
    counter REMOTE_CONNECTIONS = "barid_outbound_connections_total", "Connections to remote servers, by outcome.";
    gauge REMOTE_CONNECTIONS_OPEN = "barid_outbound_connections_open", "Connections to remote servers open now.";
    gauge QUEUED = "barid_queued_messages", "Messages in the queue.";
    gauge RESOLVER_DOUBTED = "barid_resolver_doubted", "1 while the DNS denies everything, so that nothing is bounced for a name that does not exist.";
    gauge CLOCK_JUMPED = "barid_clock_jumped", "1 while wall time is not believed because it was set by more than an hour: nothing is given up for its age.";
    gauge BREAKERS_OPEN = "barid_breakers_open", "Kinds of refusal that come from so many domains at once that they are not believed.";
    gauge DOMAINS_ACTIVE = "barid_domains_active", "Domain actors alive.";
    gauge PATHS_ACTIVE = "barid_paths_active", "Path actors alive.";
    counter LOG_LINES_DROPPED = "barid_log_lines_dropped_total", "Log lines dropped because the log could not be written fast enough.";
}
