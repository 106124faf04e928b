//! What operators ask of certificates: which are shown, and for new ones.

use serde_json::{Value, json};

use super::iso;
use super::server::{Control, Out, Outcome};
use super::wire::CertificateRequest;
use crate::app::certificates::Asker;
use crate::mail::Domain;

/// `cert ls`: those that are shown.
pub(super) async fn list(control: &Control, out: &Out) -> Outcome {
    let shown = control.certificates.shown();
    for one in shown.iter() {
        let trouble = one.ordered.as_ref().and_then(|name| control.certificates.trouble(name));
        let error = trouble.map(|trouble| trouble.error);
        out.row(&json!({
            "names": one.described.names,
            "origin": one.origin.as_str(),
            "file": one.file.display().to_string(),
            "not_before": iso(one.described.not_before),
            "not_after": iso(one.described.not_after),
            "renew_at": one.renew_at().and_then(iso),
            "tlsa": format!("3 1 1 {}", one.described.key_digest),
            "error": error,
            "next": one.ordered.as_ref().and_then(|name| control.certificates.due(name)).and_then(iso),
        }))
        .await?;
    }
    Ok(json!({ "listed": shown.len() }))
}

/// `cert renew`: has new ones signed, for all names where none is named.
pub(super) async fn renew(control: &Control, request: CertificateRequest, out: &Out) -> Outcome {
    let shown = control.certificates.shown();
    let ordered: Vec<Domain> = shown.iter().filter_map(|one| one.ordered.clone()).collect();
    let wanted = match request.domains.as_slice() {
        [] => ordered.clone(),
        named => named.iter().map(|text| named_one(text, &ordered)).collect::<Result<_, _>>()?,
    };
    if wanted.is_empty() {
        return Err("no certificate comes by ACME: [acme] domains names none".into());
    }
    let mut failed = Vec::new();
    for name in &wanted {
        control.go_on()?;
        let (asked, mut stop) = ((Asker::Operator, request.new_key), control.stop.clone());
        let renewed = tokio::select! {
            renewed = control.certificates.renew(name, asked, &*control.reloader) => renewed,
            _ = stop.wait_for(|stop| *stop) => return Err("the relay is stopping".into()),
        };
        out.row(&json!({ "domain": name.as_str(), "error": renewed.as_ref().err() })).await?;
        out.flush().await?;
        failed.extend(renewed.err().map(|error| format!("{name}: {error}")));
    }
    if failed.is_empty() { Ok(json!({ "renewed": wanted.len() })) } else { Err(failed.join("; ")) }
}

fn named_one(text: &str, ordered: &[Domain]) -> Result<Domain, String> {
    let name = Domain::parse(text).map_err(|error| format!("`{text}`: {error}"))?;
    let is_ours = ordered.contains(&name);
    is_ours.then_some(name).ok_or_else(|| format!("`{text}` is none of [acme] domains"))
}

/// `cert tlsa`: what may be published of their keys (RFC 7672 3.1.1).
pub(super) async fn records(control: &Control, request: CertificateRequest, out: &Out) -> Outcome {
    let wanted = request.domains.iter();
    let wanted = wanted.map(|text| Domain::parse(text).map_err(|error| format!("`{text}`: {error}")));
    let wanted: Vec<Domain> = wanted.collect::<Result<_, _>>()?;
    let is_meant = |name: &str| {
        let is_named = wanted.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(name));
        (wanted.is_empty() || is_named) && !name.starts_with("*.")
    };
    let mut told: Vec<Value> = Vec::new();
    for one in control.certificates.shown().iter() {
        for name in one.described.names.iter().filter(|name| is_meant(name)) {
            let record = json!({ "name": name, "record": format!("3 1 1 {}", one.described.key_digest) });
            // a name on two certificates may have one key
            if !told.contains(&record) {
                out.row(&record).await?;
                told.push(record);
            }
        }
    }
    if told.is_empty() {
        Err("no certificate that is shown is for that name".into())
    } else {
        Ok(Value::Null)
    }
}
