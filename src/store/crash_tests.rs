//! The store against a disk that keeps only its word, step by step from a seed.
//!
//! A reference model, written without any of the store's code, says what must be there after each
//! crash: everything acknowledged, and nothing of an unacknowledged group or all of it.

mod full_disk;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::alarm::Curfew;
use super::batch::{Batch, NewBody, Op};
use super::compact;
use super::disk::{Disk, Fault, LossyDisk};
use super::frame;
use super::index::{Index, MemoryIndex};
use super::log::Replayed;
use super::reader::{BodyReader, Reader};
use super::segments::{SegmentLog, SegmentSettings};
use super::writer::{Writer, WriterSettings};
use crate::clock::Timestamp;

/// Rows and their bodies.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<Vec<u8>>)>;

/// Until when a curfew silences an alarm, and its name.
type Under = Option<(u64, Bytes)>;

/// When an alarm rings, in the model's form.
fn model_alarm(value: &[u8]) -> (u64, Under) {
    let number = |octets: &[u8]| u64::from_le_bytes(octets.try_into().expect("u64"));
    let under = value.get(8..16).map(|until| (number(until), Bytes::copy_from_slice(&value[16..])));
    (number(&value[..8]), under)
}

/// What is wrong with the store under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    /// The drive answers syncs without syncing.
    SyncLeftOut,
    /// Groups are taken without looking at their checksum.
    ChecksumLeftOut,
    /// Batches are acknowledged when they are written, before they are synced.
    AckBeforeSync,
}

fn settings(rng: &mut fastrand::Rng) -> (SegmentSettings, WriterSettings) {
    let segments = SegmentSettings { segment_octets: rng.u32(3..10) * 8192, ballast_octets: 4096 };
    let writer = WriterSettings {
        memtable_octets: rng.usize(1..8) * 1024,
        replay_octets: rng.u64(1..8) * 16_384,
        body_cache_octets: rng.usize(0..3) * 2048,
        log_slack_octets: rng.u64(0..4) * 65_536,
    };
    (segments, writer)
}

struct World {
    rng: fastrand::Rng,
    disk: LossyDisk,
    index: MemoryIndex,
    settings: (SegmentSettings, WriterSettings),
    writer: Option<Writer>,
    /// What may be there now: the state that was acknowledged, and those of groups refused since.
    possible: Vec<Model>,
    next_id: u64,
    defect: Defect,
}

impl World {
    fn new(seed: u64, defect: Defect) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = LossyDisk::new();
        if defect == Defect::SyncLeftOut {
            disk.lie_about_sync();
        }
        let settings = settings(&mut rng);
        let mut world = World {
            rng,
            disk,
            index: MemoryIndex::new(),
            settings,
            writer: None,
            possible: vec![Model::new()],
            next_id: 1,
            defect,
        };
        world.open();
        world
    }

    fn open(&mut self) -> Option<Replayed> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let log = SegmentLog::open(disk.clone(), self.settings.0).ok()?;
        let index = Arc::new(self.index.clone());
        let (writer, report) = Writer::open(Box::new(log), disk, index, self.settings.1, &mut |_| {}).ok()?;
        self.writer = Some(writer);
        Some(report)
    }

    fn reader(&self) -> Reader {
        let writer = self.writer.as_ref().expect("open");
        let disk = Arc::new(self.disk.clone());
        Reader { view: writer.view(), index: Arc::new(self.index.clone()), log: writer.log().reader(), disk }
    }

    /// A batch such as the queue makes, and what the model is after it.
    fn batch(&mut self, model: &mut Model) -> Batch {
        let mut batch = Batch::new();
        let used: Vec<Vec<u8>> = model.keys().filter(|key| key[0] == b'm').cloned().collect();
        for _ in 0..self.rng.usize(1..4) {
            let pick = |rng: &mut fastrand::Rng| rng.choice(&used).cloned();
            match self.rng.u8(..10) {
                0..4 => self.insert(&mut batch, model),
                4 => {
                    if let Some(key) = pick(&mut self.rng) {
                        let value = vec![self.rng.u8(..); self.rng.usize(..40)];
                        batch.put(key.clone(), value.clone());
                        let body = model.remove(&key).and_then(|(_, body)| body);
                        model.insert(key, (value, body));
                    }
                }
                5..8 => {
                    if let Some(key) = pick(&mut self.rng) {
                        batch.delete(key.clone());
                        model.remove(&key);
                    }
                }
                8 => self.count(&mut batch, model),
                _ => self.alarm(&mut batch, model),
            }
        }
        batch
    }

    fn insert(&mut self, batch: &mut Batch, model: &mut Model) {
        let key = [b"m".as_slice(), &self.next_id.to_be_bytes()].concat();
        self.next_id += 1;
        let octet = self.rng.u8(..);
        let body = (self.rng.u8(..4) > 0).then(|| vec![octet; self.rng.usize(..6000)]);
        let value = vec![octet ^ 0xff; self.rng.usize(..60)];
        let new_body = match &body {
            Some(octets) if octets.len() > 4500 => self.body_file(&key, octets),
            octets => octets.clone().map(|octets| NewBody::Octets(octets.into())),
        };
        if body.is_some() && new_body.is_none() {
            return; // the file could not be written: such a message is never accepted
        }
        batch.insert(key.clone(), value.clone(), new_body);
        model.insert(key, (value, body));
    }

    fn body_file(&self, key: &[u8], octets: &[u8]) -> Option<NewBody> {
        let mut file = super::BodyFile::create(Arc::new(self.disk.clone()), key).ok()?;
        file.write(octets).ok()?;
        file.finish().ok()
    }

    fn count(&mut self, batch: &mut Batch, model: &mut Model) {
        let key = [b'c', self.rng.u8(..3)].to_vec();
        let before =
            model.get(&key).map_or(0, |(value, _)| u64::from_le_bytes(value[..].try_into().expect("u64")));
        let delta = if before > 0 && self.rng.bool() { -1 } else { 1 };
        batch.add(key.clone(), delta);
        match before.saturating_add_signed(delta) {
            0 => model.remove(&key),
            after => model.insert(key, (after.to_le_bytes().to_vec(), None)),
        };
    }

    /// The model knows of an alarm its time and its curfew.
    fn alarm(&mut self, batch: &mut Batch, model: &mut Model) {
        let name = Bytes::copy_from_slice(&[b'A' + self.rng.u8(..3)]);
        let key = [b"a", &name[..]].concat();
        let set = model.get(&key).map(|(value, _)| model_alarm(value));
        let curfew = Bytes::copy_from_slice(&[b'X' + self.rng.u8(..2)]);
        let curfew_row = super::curfew_key(&curfew);
        let (at, until) = (self.rng.u64(1..1000), self.rng.u64(1..1000));
        let in_force = |under: &Under| {
            let name = under.as_ref().map(|(_, name)| super::curfew_key(name));
            name.is_some_and(|row| model.contains_key(&row))
        };
        let now = match self.rng.u8(..8) {
            0..4 => {
                batch.alarm_by(name.clone(), Timestamp::from_millis(at));
                let under = set.as_ref().and_then(|(_, under)| under.clone());
                let under = Some(under).filter(in_force).flatten();
                let at = under.as_ref().map_or(at, |(until, _)| at.max(*until));
                Some((set.map_or(at, |(set, _)| set.min(at)), under))
            }
            4..6 => {
                let to = self.rng.u8(..4) > 0;
                let under = self.rng.bool().then(|| (until, curfew.clone()));
                batch.push(Op::AlarmMove {
                    name: name.clone(),
                    seen: u64::MAX,
                    to: to.then_some(Timestamp::from_millis(at)),
                    under: under
                        .clone()
                        .map(|(until, name)| Curfew { name, until: Timestamp::from_millis(until) }),
                });
                let under = Some(under).filter(in_force).flatten();
                to.then(|| (under.as_ref().map_or(at, |(until, _)| at.max(*until)), under))
            }
            6 => {
                batch.push(Op::AlarmLift {
                    name: name.clone(),
                    curfew: curfew.clone(),
                    at: Timestamp::from_millis(at),
                });
                match set {
                    Some((set, Some((_, under)))) if under == curfew => Some((set.min(at), None)),
                    set => set,
                }
            }
            _ if model.contains_key(&curfew_row) => {
                batch.delete(curfew_row.clone());
                model.remove(&curfew_row);
                return;
            }
            _ => {
                batch.put(curfew_row.clone(), "");
                model.insert(curfew_row, (Vec::new(), None));
                return;
            }
        };
        match now {
            Some((at, under)) => {
                let under =
                    under.map_or(Vec::new(), |(until, name)| [&until.to_le_bytes(), &name[..]].concat());
                model.insert(key, ([at.to_le_bytes().to_vec(), under].concat(), None))
            }
            None => model.remove(&key),
        };
    }

    /// One step; true while the power is on.
    fn step(&mut self) -> bool {
        match self.rng.u8(..20) {
            0 => self.flush(),
            1 => self.checkpoint(),
            2 => {
                self.compact();
                // freeing may fail on a failing disk; it is tried again
                let _ = self.writer.as_mut().expect("open").free_dead();
            }
            3 => {
                let at = self.disk.operations() + self.rng.u64(..6);
                let fault = if self.rng.bool() { Fault::Error } else { Fault::Full };
                self.disk.plan(at, fault);
            }
            _ => self.commit(),
        }
        !self.disk.is_off()
    }

    fn commit(&mut self) {
        let before = self.possible[0].clone();
        let mut after = before.clone();
        let batches: Vec<Batch> = (0..self.rng.usize(1..4)).map(|_| self.batch(&mut after)).collect();
        let batches: Vec<&Batch> = batches.iter().collect();
        if self.defect == Defect::AckBeforeSync {
            self.possible = vec![after.clone()];
        }
        let committed = self.writer.as_mut().expect("open").commit(&batches, self.rng.bool());
        match committed {
            Ok(_) => self.possible = vec![after],
            Err(_) if self.defect == Defect::AckBeforeSync => {}
            // refused; should the power fail before the next success, it may be there all the same
            Err(_) => self.possible.push(after),
        }
    }

    fn flush(&mut self) {
        let writer = self.writer.as_mut().expect("open");
        if let Some(job) = writer.freeze(true) {
            job.run(&self.index).expect("in memory");
            writer.flushed(job);
        }
    }

    fn checkpoint(&mut self) {
        let writer = self.writer.as_mut().expect("open");
        if let Some(marker) = writer.wants_checkpoint() {
            self.index.checkpoint().expect("in memory");
            // freeing may fail on a failing disk; it is tried again
            let _ = writer.checkpointed(marker);
        }
    }

    fn compact(&mut self) {
        let Some(segment) = self.writer.as_ref().expect("open").wants_compaction() else { return };
        self.empty(segment);
    }

    fn empty(&mut self, segment: u32) {
        let reader = self.reader();
        let mut batch = Batch::new();
        let read = reader.log.read_segment(segment, &mut |group| {
            for entry in super::group::Entries::new(group.octets, group.place.start) {
                if let Some(op) = compact::rehome(&reader, entry?.key, segment)? {
                    batch.push(op);
                }
            }
            Ok(())
        });
        if read.is_ok() && !batch.is_empty() {
            let model = self.possible.clone();
            if self.writer.as_mut().expect("open").commit(&[&batch], false).is_ok() {
                // moving rows changes none, but settles the fate of what was refused before
                self.possible = vec![model[0].clone()];
            }
        }
    }

    fn crash(&mut self) {
        self.writer = None;
        self.disk.restart(&mut self.rng);
        match self.rng.u8(..3) {
            // a killed process, or a power cut in which the index was lucky or not
            0 => {}
            1 => self.index.crash(&mut self.rng),
            _ => self.index = MemoryIndex::new(),
        }
    }

    /// Everything that readers see, in the model's terms.
    fn seen(&self) -> Result<Model, String> {
        let reader = self.reader();
        let mut seen = Model::new();
        let mut after = vec![0];
        loop {
            let limit = 1 + seen.len() % 7;
            let rows = reader.scan(Bound::Excluded(&after), &[0xff], limit).map_err(|e| e.to_string())?;
            let Some((last, _)) = rows.last() else { return Ok(seen) };
            after = last.to_vec();
            for (key, row) in rows {
                let body = read_body(&reader, &key, &row)?;
                match key[0] {
                    b'w' | b'v' => {}
                    b'a' => {
                        let untouched = [&row.value[..8], &row.value[16..]].concat();
                        seen.insert(key.into(), (untouched, None));
                    }
                    _ => drop(seen.insert(key.into(), (row.value.to_vec(), body))),
                }
            }
        }
    }

    /// The alarms in order of ringing, and those under a curfew, agree with the alarms by name.
    fn check_alarms(&self, seen: &Model) -> Result<(), String> {
        let ringing = self.reader().alarms(Timestamp::MAX, None, 100).map_err(|e| e.to_string())?;
        let ringing: BTreeMap<Vec<u8>, u64> =
            ringing.into_iter().map(|(at, name)| ([b"a", &name[..]].concat(), at.as_millis())).collect();
        let by_name = seen.iter().filter(|(key, _)| key[0] == b'a');
        let by_name: BTreeMap<Vec<u8>, u64> =
            by_name.map(|(key, (value, _))| (key.clone(), model_alarm(value).0)).collect();
        if ringing != by_name {
            return Err(format!("alarms {ringing:?} are not {by_name:?}"));
        }
        for curfew in [b"X", b"Y"] {
            let under = self.reader().alarms_under(curfew, 9).map_err(|e| e.to_string())?;
            let alarms = seen.iter().filter(|(key, _)| key[0] == b'a');
            let set_under = alarms
                .filter(|(_, (value, _))| model_alarm(value).1.is_some_and(|(_, name)| name == curfew[..]));
            let set_under: Vec<Bytes> = set_under.map(|(key, _)| Bytes::copy_from_slice(&key[1..])).collect();
            if under != set_under {
                return Err(format!("under the curfew are {under:?}, not {set_under:?}"));
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let seen = self.seen()?;
        self.check_alarms(&seen)?;
        let Some(known) = self.possible.iter().find(|model| **model == seen) else {
            return Err(format!("after a crash: {}", difference(&self.possible[0], &seen)));
        };
        self.possible = vec![known.clone()];
        Ok(())
    }

    /// When nothing lives any more, the log is freed to its last segments.
    fn check_freed(&mut self) -> Result<(), String> {
        let mut batch = Batch::new();
        let seen = self.seen()?;
        for key in seen.keys() {
            match key[0] {
                b'a' => batch.push(Op::AlarmMove {
                    name: Bytes::copy_from_slice(&key[1..]),
                    seen: u64::MAX,
                    to: None,
                    under: None,
                }),
                _ => batch.delete(key.clone()),
            };
        }
        self.writer.as_mut().expect("open").commit(&[&batch], true).map_err(|e| e.to_string())?;
        for _ in 0..3 {
            self.flush();
            self.checkpoint();
            // a new segment, so that the one before can go
            let mut filler = Batch::new();
            let octets = self.settings.0.segment_octets as usize;
            filler.insert(*b"x", "", Some(NewBody::Octets(vec![0; octets].into())));
            let mut empty = Batch::new();
            empty.delete(*b"x");
            let writer = self.writer.as_mut().expect("open");
            writer
                .commit(&[&filler], true)
                .and_then(|_| writer.commit(&[&empty], true))
                .map_err(|e| e.to_string())?;
        }
        let (segments, live) = self.writer.as_ref().expect("open").sizes();
        // files of refused messages go at the next start: until then their group might come back
        self.writer = None;
        self.open();
        let files = self.disk.list("bodies").map_err(|e| e.to_string())?;
        if live == 0 && segments.len() <= 4 && files.is_empty() {
            return Ok(());
        }
        Err(format!("not freed: {live} octets live in {segments:?}, body files {files:?}"))
    }
}

fn read_body(reader: &Reader, key: &[u8], row: &super::Row) -> Result<Option<Vec<u8>>, String> {
    match reader.body(key, row).map_err(|e| format!("body of {key:?}: {e}"))? {
        None => Ok(None),
        Some(BodyReader::Octets(octets)) => Ok(Some(octets.to_vec())),
        Some(BodyReader::File(mut file)) => {
            let mut octets = Vec::new();
            loop {
                let more = file.read(1000).map_err(|e| e.to_string())?;
                if more.is_empty() {
                    return Ok(Some(octets));
                }
                octets.extend_from_slice(&more);
            }
        }
    }
}

fn difference(want: &Model, seen: &Model) -> String {
    let lost = want.iter().filter(|(key, row)| seen.get(*key) != Some(row)).count();
    let extra = seen.keys().filter(|key| !want.contains_key(*key)).count();
    format!("{lost} rows lost or changed of {}, {extra} that should not be", want.len())
}

/// Runs one world: some steps, a crash, a look; three times over.
fn run(seed: u64, defect: Defect) -> Result<(), String> {
    let mut world = World::new(seed, defect);
    for _ in 0..3 {
        let cut = world.disk.operations() + world.rng.u64(1..120);
        world.disk.plan(cut, Fault::PowerCut);
        for _ in 0..200 {
            if !world.step() {
                break;
            }
        }
        world.crash();
        // the power may fail in recovery too
        if world.rng.bool() {
            let cut = world.disk.operations() + world.rng.u64(..8);
            world.disk.plan(cut, Fault::PowerCut);
            world.open();
            world.crash();
        }
        let report = world.open().ok_or("the store does not open")?;
        if !report.damage.is_empty() {
            return Err(format!("damage reported where there was none: {:?}", report.damage));
        }
        world.check()?;
    }
    world.check_freed()
}

fn first_failure(seeds: std::ops::Range<u64>, defect: Defect) -> Option<(u64, String)> {
    frame::SKIP_CHECKSUM.set(defect == Defect::ChecksumLeftOut);
    let found = seeds.into_iter().find_map(|seed| {
        let outcome = std::panic::catch_unwind(|| run(seed, defect));
        let failure = outcome.unwrap_or_else(|_| Err("panicked".into())).err();
        failure.map(|why| (seed, why))
    });
    frame::SKIP_CHECKSUM.set(false);
    found
}

/// `BARID_SEEDS=10000-20000` runs other worlds than the usual ones.
#[test]
fn what_was_acknowledged_survives_every_crash() {
    let range = std::env::var("BARID_SEEDS").ok();
    let range = range.as_deref().and_then(|range| range.split_once('-'));
    let (from, to) = range
        .map_or((0, 10_000), |(from, to)| (from.parse().expect("a number"), to.parse().expect("a number")));
    if let Some((seed, why)) = first_failure(from..to, Defect::None) {
        panic!("seed {seed}: {why}");
    }
}

#[test]
fn a_sync_left_out_would_be_noticed() {
    assert!(first_failure(0..200, Defect::SyncLeftOut).is_some());
}

#[test]
fn a_checksum_left_out_would_be_noticed() {
    assert!(first_failure(0..2_000, Defect::ChecksumLeftOut).is_some());
}

#[test]
fn an_acknowledgement_before_the_sync_would_be_noticed() {
    assert!(first_failure(0..200, Defect::AckBeforeSync).is_some());
}

#[test]
fn rot_before_the_last_group_is_told_and_set_aside_and_the_rest_read() {
    let mut world = World::new(1, Defect::None);
    world.settings.1.memtable_octets = usize::MAX;
    for number in 0..3_u8 {
        let mut batch = Batch::new();
        batch.insert([b'm', number], vec![number; 4], None);
        world.writer.as_mut().expect("open").commit(&[&batch], false).expect("commits");
    }
    world.writer = None;
    // the second group, in the block behind the headers and the first group
    world.disk.rot("log/0000000001.seg", 3 * 4096 + 30);
    let report = world.open().expect("opens");
    assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
    assert_eq!(world.disk.list("damaged").expect("lists"), ["damaged/0000000001-12288"]);
    let seen = world.seen().expect("reads");
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), [vec![b'm', 0], vec![b'm', 2]]);
}

#[test]
fn a_damaged_body_is_an_error_and_never_sent() {
    let mut world = World::new(1, Defect::None);
    world.settings.1.body_cache_octets = 0;
    world.open();
    let mut batch = Batch::new();
    batch.insert(*b"m1", "", Some(NewBody::Octets(Bytes::from_static(&[7; 3000]))));
    world.writer.as_mut().expect("open").commit(&[&batch], false).expect("commits");
    world.disk.rot("log/0000000001.seg", 8192 + 1500);
    let reader = world.reader();
    let row = reader.get(b"m1").expect("reads").expect("is there");
    assert!(matches!(reader.body(b"m1", &row), Err(super::StoreError::Damaged(_))));
}

#[test]
fn what_dies_behind_a_checkpoint_is_freed() {
    let mut world = World::new(1, Defect::None);
    world.settings.0.segment_octets = 32_768;
    world.open();
    let mut long_lived = Batch::new();
    long_lived.insert(*b"m0", "", Some(NewBody::Octets(vec![1; 100].into())));
    world.writer.as_mut().expect("open").commit(&[&long_lived], false).expect("commits");
    for number in 1..20_u8 {
        let (mut come, mut go) = (Batch::new(), Batch::new());
        come.insert([b'm', number], "", Some(NewBody::Octets(vec![number; 20_000].into())));
        go.delete([b'm', number]);
        let writer = world.writer.as_mut().expect("open");
        writer.commit(&[&come], false).and_then(|_| writer.commit(&[&go], false)).expect("commits");
        if number % 5 == 0 {
            world.flush();
            let marker = world.index.marker().expect("in memory").expect("was fed");
            world.index.checkpoint().expect("in memory");
            world.writer.as_mut().expect("open").checkpointed(marker).expect("frees");
        }
    }
    let segments = |world: &World| world.writer.as_ref().expect("open").sizes().0.len();
    assert!(segments(&world) > 10, "one old message keeps them");
    let mut gone = Batch::new();
    gone.delete(*b"m0");
    let writer = world.writer.as_mut().expect("open");
    writer.commit(&[&gone], false).and_then(|_| writer.free_dead()).expect("commits");
    assert!(segments(&world) < 10, "{} are left", segments(&world));
}
