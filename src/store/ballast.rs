//! Room kept back on the disk, in pieces, for what must be written though the disk be full: the results of what
//! already happened, the index, and the next start.
//!
//! New mail is taken only where all of it lies. Nothing here is synced: what a power cut takes is laid again.

use std::io;
use std::sync::Arc;

use super::disk::Disk;
use super::error::StoreError;

/// What the names of the pieces begin with.
const NAME: &str = "log/ballast";
/// Pieces: each start on a full disk takes one, or several where one is too small.
const PIECES: u64 = 8;

/// The ballast.
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    piece_octets: u64,
    /// Pieces that lie on the disk, numbered from 0.
    pieces: u64,
}

fn piece_name(number: u64) -> String {
    format!("{NAME}-{number}")
}

/// Gives one up, whoever has removed it before.
fn drop_piece(disk: &dyn Disk, name: &str) -> Result<(), StoreError> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("dropping ballast")(error))
        }
        _ => Ok(()),
    }
}

impl Ballast {
    /// With the pieces that are there in their full weight, without a gap; all others are removed.
    pub(super) fn find(disk: Arc<dyn Disk>, names: &[String], octets: u64) -> Self {
        let piece_octets = octets / PIECES;
        let is_whole = |name: &str| {
            let len = disk.open(name).and_then(|file| file.len_octets());
            piece_octets > 0 && len.is_ok_and(|len| len == piece_octets)
        };
        let pieces = (0..PIECES).take_while(|number| is_whole(&piece_name(*number))).count() as u64;
        let is_kept = |name: &str| (0..pieces).any(|number| piece_name(number) == name);
        for name in names.iter().filter(|name| name.starts_with(NAME) && !is_kept(name)) {
            // where even this fails it is tried again when ballast is laid
            let _ = disk.remove(name);
        }
        Ballast { disk, piece_octets, pieces }
    }

    /// What giving up a piece frees.
    pub(super) fn piece_octets(&self) -> u64 {
        self.piece_octets
    }

    /// Lays what is missing; fails where there is no room for all of it.
    pub(super) fn lay(&mut self) -> Result<(), StoreError> {
        while self.piece_octets > 0 && self.pieces < PIECES {
            let name = piece_name(self.pieces);
            if let Err(error) = self.disk.create(&name, self.piece_octets) {
                // a husk would be in the way of the next try
                let _ = self.disk.remove(&name);
                return Err(StoreError::io("laying ballast")(error));
            }
            self.pieces += 1;
        }
        Ok(())
    }

    /// Gives up a piece; false where none is left.
    pub(super) fn give_up(&mut self) -> Result<bool, StoreError> {
        let Some(last) = self.pieces.checked_sub(1) else { return Ok(false) };
        drop_piece(&*self.disk, &piece_name(last))?;
        self.pieces = last;
        Ok(true)
    }
}

/// Gives up a piece where no store is open yet, so that it can be opened on a full disk; false where none is left.
pub(super) fn give_up_one(disk: &dyn Disk) -> Result<bool, StoreError> {
    let names = disk.list("log").map_err(StoreError::io("listing the log"))?;
    let Some(last) = names.iter().filter(|name| name.starts_with(NAME)).max() else { return Ok(false) };
    drop_piece(disk, last).map(|()| true)
}
