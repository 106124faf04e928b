//! What operators ask of TLS reports: what waits to be told, and how it would be.

use serde_json::json;

use super::server::{Control, Out, Outcome};
use super::wire::TlsReportRequest;
use super::{iso, store_error};
use crate::mail::Domain;
use crate::transport::Day;

/// `tlsrpt ls`: the days of domains that are not reported yet.
pub(super) async fn list(control: &Control, out: &Out) -> Outcome {
    control.reports.write_down(&control.stop).await.map_err(store_error)?;
    let (mut behind, mut listed) = (None, 0_u64);
    loop {
        control.go_on()?;
        let (waiting, last) = control.reports.waiting(behind.take()).await.map_err(store_error)?;
        for one in &waiting {
            let (successful, failed) = one.counts.totals();
            out.row(&json!({
                "day": one.day.to_string(), "domain": one.domain.as_str(),
                "successful": successful, "failed": failed, "due": iso(one.next),
            }))
            .await?;
            listed += 1;
        }
        behind = last;
        if behind.is_none() {
            return Ok(json!({ "listed": listed }));
        }
    }
}

/// `tlsrpt show`: a report as it would be sent.
pub(super) async fn show(control: &Control, request: TlsReportRequest) -> Outcome {
    control.reports.write_down(&control.stop).await.map_err(store_error)?;
    let domain = Domain::parse(&request.domain).map_err(|error| format!("`{}`: {error}", request.domain))?;
    let day = match &request.day {
        Some(day) => day.parse().map_err(|()| format!("`{day}` is no day such as 2026-11-20"))?,
        None => Day::of(control.deps.clock.shown()),
    };
    let report = control.reports.report(day, &domain).await.map_err(store_error)?;
    report.ok_or_else(|| {
        format!("nothing is known of {domain} on {day}: no session, it wants no reports, or has been told")
    })
}
