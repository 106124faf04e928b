//! What the command line asks for.
//!
//! Owns the options and their bounds. Promises that options which pass
//! [`Options::check`] name consecutive loopback addresses that exist.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::quantity;

/// Accepts the mail of `barid-load` on many loopback addresses, checks every
/// octet of it and tells what arrived.
#[derive(Debug, Parser)]
#[command(name = "barid-sink", version)]
pub(crate) struct Options {
    /// The first address and the port of all; port 0 chooses one
    #[arg(long, default_value = "127.0.2.1:25")]
    pub(crate) listen: SocketAddrV4,
    /// How many consecutive addresses to listen on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) addresses: u32,
    /// End when so many distinct ids have arrived
    #[arg(long)]
    pub(crate) expect: Option<u64>,
    /// How long --expect may take
    #[arg(long, default_value = "300s", value_parser = quantity::duration)]
    pub(crate) timeout: Duration,
    /// Append the id of each arrival to this file
    #[arg(long)]
    pub(crate) ledger: Option<PathBuf>,
    /// The ledger of barid-load to compare the arrivals with at the end
    #[arg(long)]
    pub(crate) compare: Option<PathBuf>,
    /// Send replies this late; those to pipelined commands together
    #[arg(long, default_value = "0ms", value_parser = quantity::duration)]
    pub(crate) latency: Duration,
    /// The share of RCPT commands answered with 451
    #[arg(long = "reject-4xx", default_value_t = 0.0, value_parser = share)]
    pub(crate) reject_4xx: f64,
    /// The share of messages after whose final dot the connection is closed
    /// without a reply
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) drop_after_data: f64,
    /// Connections to one address at a time, beyond which 421 is given
    #[arg(long)]
    pub(crate) max_connections: Option<u32>,
    /// Messages to one address, such as 10/s, beyond which 421 is given
    #[arg(long, value_parser = quantity::rate)]
    pub(crate) rate: Option<f64>,
    /// Write each id and the monotonic nanoseconds of its arrival to this file
    #[arg(long)]
    pub(crate) stamps: Option<PathBuf>,
    /// Write to this file each second: seconds, messages received, 421s given
    #[arg(long)]
    pub(crate) timeline: Option<PathBuf>,
    /// Answer DNS for the load's domains on this address
    #[arg(long)]
    pub(crate) dns: Option<SocketAddr>,
    /// How many domains DNS knows; by default one for each address
    #[arg(long)]
    pub(crate) domains: Option<u32>,
    /// Do not offer PIPELINING
    #[arg(long)]
    pub(crate) no_pipelining: bool,
    /// Do not offer CHUNKING
    #[arg(long)]
    pub(crate) no_chunking: bool,
    /// Offer STARTTLS, with a certificate that nobody vouches for
    #[arg(long)]
    pub(crate) tls: bool,
    /// Print the summary as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        for address in [Some(self.address(0)), self.address_checked(self.addresses - 1)] {
            let address = address.context("the addresses go beyond the last there is")?;
            ensure!(address.is_loopback(), "{address} is not a loopback address");
        }
        if let Some(dns) = self.dns {
            ensure!(dns.ip().is_loopback(), "{} is not a loopback address", dns.ip());
        }
        Ok(())
    }

    /// The address at a place in the row; see [`Options::check`].
    pub(crate) fn address(&self, place: u32) -> Ipv4Addr {
        self.address_checked(place).unwrap_or(Ipv4Addr::BROADCAST)
    }

    fn address_checked(&self, place: u32) -> Option<Ipv4Addr> {
        self.listen.ip().to_bits().checked_add(place).map(Ipv4Addr::from_bits)
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".into()),
    }
}
