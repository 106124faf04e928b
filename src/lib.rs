//! Barid: a mail relay that guards its owner's sending reputation by itself.
//!
//! This page is the map. Whoever has read it knows every room, what may import what, the way of a
//! message, and what must always hold.
//!
//! # The rooms, in layers
//!
//! A room imports only rooms of lower layers: never its own layer, never upwards. `tests/layers.rs`
//! reads every path and holds the house to it. What must travel sideways travels as values of L0, or
//! through traits and closures that `app` wires.
//!
//! | layer | room | owns |
//! |---|---|---|
//! | L0 | [`mail`] | the words: addresses, envelopes, ids, replies, outcomes |
//! | L0 | [`clock`] | the only reader of the time |
//! | L1 | [`smtp`] | the protocol without I/O, both ways round |
//! | L1 | [`dsn`] | what refusals mean; the form of delivery reports, those written and those that come back |
//! | L1 | [`files`] | small files, written whole or not at all |
//! | L1 | [`observe`] | the declaration of each metric, the log |
//! | L1 | [`work`] | what is under way, by labels; permits whose number may change; values that a reload replaces |
//! | L2 | [`net`] | sockets, TLS, HTTPS, ACME, the DNS and what DNSSEC proves of it, where mail for a domain goes |
//! | L2 | [`store`] | durable rows and bodies: the log, the memtables, the index |
//! | L3 | [`accounts`] | who may hand mail over, and from which domains |
//! | L3 | [`transport`] | what mail hosts must prove: DANE, MTA-STS, operators' orders; how sessions went |
//! | L3 | [`authentication`] | DKIM: keys, what they sign, how one takes another's place |
//! | L4 | [`egress`] | how we stand with receivers: who keeps us away, and until when |
//! | L4 | [`queue`] | what waits: rows, pages, turns, leases; destinations that are down; operators' orders |
//! | L5 | [`gate`] | the only way in |
//! | L6 | [`inbound`] | listeners and sessions of clients |
//! | L6 | [`outbound`] | manager, domains, paths, sessions to remote servers, settling |
//! | L6 | [`reports`] | what is told to others of how mail for them went: TLS reports |
//! | L7 | [`sim`] | the world outside, made by hand; a whole relay in it, on paused time |
//! | L8 | [`app`] | configuration, start and stop, certificates, the admin socket and its commands, demo |
//!
//! # The way of a message
//!
//! ```text
//! inbound::listener -> session -> (smtp::Server asks) -> gate::Draft (stamp, split by domain)
//!   -> store (one batch, one sync) -> 250
//!   -> alarm of the domain -> outbound::manager -> domain (page against credits)
//!   -> path (lane, connections) -> session (smtp::Client) -> settle -> store (settlement + report)
//! ```
//!
//! One direction, no turning back. Nothing is handed from inbound to outbound but through the store;
//! the alarm only says that it is worth looking.
//!
//! Beside it, from the side: `barid queue`, `domain` and the like speak to the admin socket (HTTP on
//! `data_dir/admin.sock`, one JSON object a line). Looking reads rows in pieces on the store's readers and asks
//! actors what they see; acting on single copies takes their leases first, and everything else is an order.
//!
//! # What is believed of a mail host
//!
//! A *stance* belongs to a domain ([`transport`]): the operator's order, else its MTA-STS policy, else nothing. Domains
//! of different stances have sites, and so paths, of their own, whose names tell them apart (`mx.example (mta-sts)`).
//! A *demand* belongs to one host of it, and is found when a connection is opened, so that records are as fresh as the
//! DNS has them: its DANE records go before the stance. A *proof* belongs to a connection. Answers of the DNS are
//! secure, proven to be insecure, or bogus; what is bogus keeps the host out.
//!
//! # What a refusal does
//!
//! What a reply means is data ([`dsn`]): rules of receivers, then rules for all, then its digits. A message settles by
//! what was said of it: a verdict on it or its recipient ends it, what is about where it came from does not. The same
//! judgement goes to three places: where mail comes too fast the path slows down, or the provider with all its sites; a
//! receiver that is fed up is *paused* for a time; one that *blocks* us has its mail held (`block:NAME`), tried or not,
//! until an operator releases it, and new mail shows after a while whether that is over ([`egress`]). A receiver is a
//! provider whose hosts are in one hand, or else a site; a host speaks for its own alone, as anybody may name a
//! provider's hosts beside theirs.
//!
//! # What must always hold
//!
//! 1. 250 means durable: it is sent after fdatasync, never from a cache.
//! 2. Every accepted recipient ends exactly once. What is being tried is a lease outside all actors;
//!    a crash repeats only attempts whose result was not yet synced.
//! 3. Memory is bounded by named limits, plus the index's own cost for what is queued.
//! 4. Waiting is no attempt. A path that is down charges no message and rewrites no row.
//! 5. Only a verdict on this message or recipient bounces it ([`mail::Verdict`] is where that is judged).
//! 6. Only known clients relay, from domains they own; only CRLF ends lines.
//! 7. No report goes to the null reverse-path.
//! 8. Decisions are pure: machines, schedules, cores and settlement read no clock and do no I/O.
//!
//! # Where building showed a better way
//!
//! - Rows become durable in the log and live in a memtable; the index (sled) is fed from it in frozen
//!   tables. Mail that is delivered within seconds never costs the index a write.
//! - The log holds only puts and deletes of whole rows: counters and alarms are resolved before they
//!   are logged, so replay is idempotent, and each row knows the segment that it keeps alive.
//! - An entry of the index is a block of rows: sled keeps some 700 octets in memory for each page of 8 to
//!   16 entries, however small, and a million queued messages are then 10 MiB rather than 115.
//! - Bodies up to 512 KiB live in the log, four times the size first planned: a file of its own, and a
//!   sync of its own, cost a message of 256 KiB a quarter of its CPU. Only 128 at a time may be that large in memory
//!   while they come in; beyond that, files begin at 128 KiB.
//! - A domain's earliest due is an *alarm*, which may ring early but never late. It is moved only by
//!   whoever has seen every group that touched it.
//! - A destination that is down is a row, a *curfew*: alarms set under it keep silent as long as the row
//!   is there, so mail that comes in for it wakes nobody. When it answers, the row goes and the alarms are
//!   lifted. Paths and names that do not resolve are curfews of the same kind.
//! - The simulator hosts not only the cores but the actors, sessions and the writer's desk themselves: on
//!   one thread with paused time and all randomness from the seed, tokio's scheduler and timer are the
//!   event heap. What is tested is what runs.
//! - A site's window begins at one connection and grows with each that opens; its rate is unlimited until
//!   a session is sent away. Both shrink to what was taken and creep on from there. How many connections a
//!   window is worth is judged by how long a message takes, so that a site nearby gets few and one far away many.
//! - Connections belong to mail hosts, not to paths: one without work is left to whoever wants its host next,
//!   and holds its places only until somebody wants these.
//! - Orders of operators are curfews as well: a suspended domain keeps silent like one that is down. An order
//!   for a client is heeded where its mail is read. A flush is a lap over everything, and what was tried since
//!   is passed over.
//! - What operators do with single copies is done under the same leases as attempts, so that neither sees half
//!   of the other. An export holds what it writes: no copy leaves from two hosts.
//! - A setting is declared once: what reads it, the example, the documentation and what a reload may do follow from
//!   that. Rooms hold what may change as [`work::Live`] values: what begins after a reload goes by the new ones.
//! - The age of the queue is counted in rows of its own, one for each class and sixteen seconds of arrival: five
//!   million copies are told as fast as five.
//! - What is kept back on a full disk (the ballast) is for results and the next start alone.
//! - What a message needs (8BITMIME, SMTPUTF8) is what its octets show when it comes in, not what was declared:
//!   plain text goes everywhere.
//! - Keys that sign are files of a ring of their own (`data_dir/dkim`), not rows and not settings: they can be made
//!   before the first start, be taken over from elsewhere and be retired whatever the configuration looks like. Who
//!   moves them on is a keeper that looks into the DNS; nothing signs before the DNS shows it.
//! - A signature is begun when the header is settled and made when the body has ended; a body that is a file keeps room
//!   at its start for it, whose size is known before. Relaxed forms are our own: the library's takes lines of white
//!   space at the end of a body for content, which verifiers by the letter of RFC 6376 do not.
//! - A client's mail is signed only for domains that it may send from: else one tenant could have another's name signed.
//! - TLS has its room in `net`; sessions see a stream and a few facts. A server where TLS breaks is remembered by
//!   address, like a dead one.
//! - A session is counted for reports (TLS-RPT) once, when it is opened, for the domain whose mail it was opened for:
//!   connections belong to hosts, and what others send over one later proves nothing new.
//! - An order for a certificate is kept before it is made, with the time of the next: no full disk, crash or clock makes
//!   an authority be asked again at once. A first order is for the stand-in's key, so that what was published of that
//!   holds.
//! - That the DNS denies a name is believed only with proof that it works: a zone above the name answers,
//!   asked anew before and after. The share of denials among all answers needs no statistics then.
//! - Sessions take copies from a lane, a piece of shared memory with credits; actors hear of it in
//!   batches. A lane is in order of class, and of clients' turns by octets; mail that somebody waits for
//!   has places of its own where other mail has filled the window.

pub mod accounts;
pub mod app;
pub mod authentication;
pub mod clock;
pub mod dsn;
pub mod egress;
pub mod files;
pub mod gate;
pub mod inbound;
pub mod mail;
pub mod net;
pub mod observe;
pub mod outbound;
pub mod queue;
pub mod reports;
pub mod sim;
pub mod smtp;
pub mod store;
pub mod transport;
pub mod work;
