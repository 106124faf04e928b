//! `barid domain`, `barid trace` and `barid stats`: how mail goes, and where.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::remote::{Remote, distance, number, seconds, size, text};
use crate::app::control::wire::{DomainRequest, StatsRequest, TraceRequest};

/// Looks at destinations, and stops or resumes their mail.
#[derive(Subcommand)]
pub(super) enum DomainCommand {
    /// Lists the domains with the most mail.
    #[command(after_help = "Examples:\n  barid domain ls\n  barid domain ls --limit 1000 --json")]
    Ls {
        /// No more than so many (default 100).
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Shows how mail for a domain goes: the limit that binds now, connections, rate, the next probe of a
    /// destination that is down, the last replies.
    #[command(after_help = "Example:\n  barid domain show example.net")]
    Show {
        /// The domain.
        domain: String,
    },
    /// Stops mail for a domain, for a while or until it is resumed. It does not expire meanwhile.
    #[command(
        after_help = "Examples:\n  barid domain suspend example.net --for 2h\n  barid domain suspend example.net"
    )]
    Suspend {
        /// The domain.
        domain: String,
        /// For so long, such as 30m or 2h.
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        time: Option<u64>,
    },
    /// Lets mail for a domain go, whatever stopped it, and tries it at once. That its receiver pauses or blocks our mail
    /// is forgotten.
    #[command(after_help = "Example:\n  barid domain resume example.net")]
    Resume {
        /// The domain.
        domain: String,
    },
}

pub(super) fn run(command: DomainCommand, remote: &Remote) -> anyhow::Result<()> {
    match command {
        DomainCommand::Ls { limit } => list(remote, limit),
        DomainCommand::Show { domain } => {
            let request = DomainRequest { domain: Some(domain), ..DomainRequest::default() };
            remote.ask("domain/show", &request, &mut |_| String::new(), &mut told).map(drop)
        }
        DomainCommand::Suspend { domain, time } => {
            let request =
                DomainRequest { domain: Some(domain), for_seconds: time, ..DomainRequest::default() };
            let mut end = |end: &Value| match end.get("until").and_then(Value::as_str) {
                Some(until) => format!("{} until {until}", text(end, "order")),
                None => format!("{} until it is resumed", text(end, "order")),
            };
            remote.ask("domain/suspend", &request, &mut |_| String::new(), &mut end).map(drop)
        }
        DomainCommand::Resume { domain } => {
            let request = DomainRequest { domain: Some(domain), ..DomainRequest::default() };
            let mut end = |end: &Value| {
                let before = if end["was_stopped"] == json!(true) { "it was stopped; " } else { "" };
                let still = if list_of(end, "still_stopped_by").is_empty() {
                    ""
                } else {
                    "; but all mail is stopped: see `barid queue orders`"
                };
                let mut told = format!("{before}{}{still}", text(end, "order"));
                for opened in list_of(end, "opened").iter().filter_map(Value::as_str) {
                    told += &format!("; {opened} is open again; what is held for it is not released by that");
                }
                told
            };
            remote.ask("domain/resume", &request, &mut |_| String::new(), &mut end).map(drop)
        }
    }
}

fn list(remote: &Remote, limit: Option<u64>) -> anyhow::Result<()> {
    remote.heading(" messages     due  state      domain")?;
    let mut row = |row: &Value| {
        let state = row.get("stopped").and_then(Value::as_str).unwrap_or("");
        let (messages, due) = (number(row, "messages"), distance(row, "next_due"));
        format!("{messages:>9}  {due:>6}  {state:<10} {}", text(row, "domain"))
    };
    let mut end = |end: &Value| format!("{} of {} domains", number(end, "listed"), number(end, "domains"));
    let request = DomainRequest { limit, ..DomainRequest::default() };
    remote.list("domain/ls", &request, &mut row, &mut end)
}

fn list_of<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A domain in full.
fn told(shown: &Value) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, told: String| lines.push(format!("{name:<12} {told}"));
    line("domain", text(shown, "domain").into());
    line("messages", number(shown, "messages").to_string());
    line("now", text(shown, "doing").into());
    if let Some(limit) = shown.get("limit").and_then(Value::as_str) {
        line("limited by", limit.into());
    }
    if let Some(blocked) = shown.get("blocked").filter(|blocked| blocked.is_object()) {
        line("blocked", format!("{} until {}", text(blocked, "why"), text(blocked, "until")));
    }
    if let Some(closed) = shown.get("closed").filter(|closed| closed.is_object()) {
        let (how, why) = (text(closed, "how"), text(closed, "why"));
        let (since, until) = (text(closed, "since"), text(closed, "until"));
        let receiver = text(shown, "receiver");
        line("closed", format!("{receiver}: {how} since {since}, tried again after {until}: {why}"));
    }
    for order in list_of(shown, "orders") {
        let until = order.get("until").and_then(Value::as_str);
        let until = until.map_or("until it is lifted".into(), |until| format!("until {until}"));
        let (of, what) = (text(order, "of"), text(order, "order"));
        line("order", format!("{of}: {what} since {}, {until}", text(order, "since")));
    }
    line("next due", format!("{} ({})", text(shown, "next_due"), distance(shown, "next_due")));
    match shown.get("no_way").and_then(Value::as_str) {
        Some(why) => line("no way", why.into()),
        None => line("site", text(shown, "site").into()),
    }
    if let Some(provider) = shown.get("provider").and_then(Value::as_str) {
        line("provider", provider.into());
    }
    if let Some(path) = shown.get("path").filter(|path| path.is_object()) {
        let (up, window, most) =
            (number(path, "connections_up"), number(path, "window"), number(path, "window_max"));
        line("connections", format!("{up} up; it takes {window} of at most {most}"));
        let rate = path.get("per_second").and_then(Value::as_f64);
        line("rate", rate.map_or("no limit known".into(), |rate| format!("{rate:.2} messages a second")));
    }
    for (what, rest) in shown.get("rests").and_then(Value::as_object).into_iter().flatten() {
        line(
            "down",
            format!(
                "{what}: {} failures in a row since {}, next probe {} ({})",
                number(rest, "failures"),
                text(rest, "since"),
                text(rest, "next_probe"),
                distance(rest, "next_probe"),
            ),
        );
    }
    for reply in list_of(shown, "last_replies") {
        line(
            "last reply",
            format!("{} {}: {}", text(reply, "at"), text(reply, "host"), text(reply, "reply")),
        );
    }
    lines.join("\n")
}

/// What is shown of the way to an address.
#[derive(Args)]
pub(super) struct TraceOptions {
    /// The address.
    address: String,
    /// Speaks to the hosts, from EHLO to RCPT and RSET; sends nothing.
    #[arg(long)]
    probe: bool,
    /// The sender named there; `<>` where none is.
    #[arg(long)]
    from: Option<String>,
}

/// What a host must prove, and the records that say so.
fn demanded(row: &Value) -> Vec<String> {
    let Some(demand) = row.get("demand") else { return Vec::new() };
    let mut lines = vec![match demand.get("error").and_then(Value::as_str) {
        Some(error) => format!("       must prove: unknown, so no mail goes there ({error})"),
        None => format!("       must prove: {} {}", text(demand, "by"), text(demand, "base")),
    }];
    let records = list_of(demand, "records").iter().chain(list_of(demand, "certificates"));
    lines.extend(records.filter_map(Value::as_str).map(|record| format!("         {record}")));
    lines
}

pub(super) fn trace(options: TraceOptions, remote: &Remote) -> anyhow::Result<()> {
    let TraceOptions { address, probe, from } = options;
    let mut row = |row: &Value| {
        let mut lines = vec![format!(
            "{:>5}  {}  {}",
            number(row, "preference"),
            text(row, "host"),
            text(row, "address")
        )];
        lines.extend(demanded(row));
        let Some(probe) = row.get("probe").filter(|probe| probe.is_object()) else { return lines.join("\n") };
        for exchange in list_of(probe, "exchanges") {
            if !text(exchange, "said").is_empty() {
                lines.push(format!("       > {}", text(exchange, "said")));
            }
            lines.extend(
                list_of(exchange, "heard")
                    .iter()
                    .filter_map(Value::as_str)
                    .map(|heard| format!("       < {heard}")),
            );
        }
        if let Some(tls) = probe.get("tls").and_then(Value::as_str) {
            lines.push(format!("       TLS {tls}; certificate: {}", text(probe, "certificate")));
        }
        let told = |key: &str, what: &str| Some(format!("       {what}: {}", probe.get(key)?.as_str()?));
        lines.extend(told("proof", "proven").into_iter().chain(told("unproven", "no mail goes there")));
        lines.join("\n")
    };
    let mut end = |end: &Value| {
        let mut lines = Vec::new();
        match end.get("no_way").and_then(Value::as_str) {
            Some(why) => lines.push(format!("no way: {why}")),
            None => {
                lines.push(format!(
                    "route {}, site {}, TLS {}",
                    text(end, "route"),
                    text(end, "site"),
                    text(end, "tls")
                ));
                lines.push(format!("MTA-STS {}", text(end, "mta_sts")));
            }
        }
        lines.extend(
            end.get("provider").and_then(Value::as_str).map(|provider| format!("provider {provider}")),
        );
        lines.extend(
            list_of(end, "stops").iter().filter_map(Value::as_str).map(|stop| format!("waits: {stop}")),
        );
        if let Some(accepted) = end.get("accepted").and_then(Value::as_bool) {
            lines.push(if accepted {
                "the address is taken".into()
            } else {
                "no host takes the address".to_owned()
            });
        }
        lines.join("\n")
    };
    let answer = remote.ask("trace", &TraceRequest { address, probe, from }, &mut row, &mut end)?;
    if answer.get("no_way").is_some_and(Value::is_string) || answer["accepted"] == json!(false) {
        anyhow::bail!("mail for this address does not get through now");
    }
    Ok(())
}

pub(super) fn stats(limit: Option<u64>, remote: &Remote) -> anyhow::Result<()> {
    let mut headed = (false, false);
    let mut row = |row: &Value| {
        if row.get("client").is_some() {
            let head =
                if std::mem::replace(&mut headed.0, true) { "" } else { " accepted    queued  client\n" };
            let (accepted, queued) = (number(row, "accepted"), number(row, "queued"));
            return format!("{head}{accepted:>9} {queued:>9}  {}", text(row, "client"));
        }
        let head =
            if std::mem::replace(&mut headed.1, true) { "" } else { "\n             queued  domain\n" };
        format!("{head}          {:>9}  {}", number(row, "queued"), text(row, "domain"))
    };
    let mut end = |end: &Value| {
        let since = &end["since_start"];
        let held = end.get("held").and_then(Value::as_object);
        let held: Vec<String> =
            held.into_iter().flatten().map(|(reason, count)| format!("{count} held ({reason})")).collect();
        let held = if held.is_empty() { String::new() } else { format!(", of these {}", held.join(", ")) };
        let store = end.get("store_ailment").and_then(Value::as_str).map_or("well", |ailment| ailment);
        let orders: Vec<String> = list_of(end, "orders")
            .iter()
            .map(|order| format!("\norder: {} is {}", text(order, "of"), text(order, "order")))
            .collect();
        format!(
            "\nbarid {} since {} ({})\n{} messages queued{held}; {} being sent\n\
             {} messages accepted, {} commands and messages refused\n\
             recipients: {} delivered, {} put off, {} given up, in {} attempts\n\
             connections: {} in, {} out; {} domains and {} paths active; {} destinations down\n\
             log {}, disk free {}; store: {store}{}",
            text(end, "version"),
            text(end, "started"),
            distance(end, "started"),
            number(end, "queued"),
            number(end, "leased"),
            number(since, "accepted_messages"),
            number(since, "refused"),
            number(since, "delivered_recipients"),
            number(since, "deferred_recipients"),
            number(since, "bounced_recipients"),
            number(since, "attempts"),
            number(end, "connections_in"),
            number(end, "connections_out"),
            number(end, "domains_active"),
            number(end, "paths_active"),
            number(end, "destinations_down"),
            size(number(end, "log_bytes")),
            size(number(end, "disk_free_bytes")),
            orders.concat(),
        )
    };
    remote.ask("stats", &StatsRequest { limit }, &mut row, &mut end).map(drop)
}
