//! The disk is full: what is refused, what is finished all the same, and from which room.

use super::*;
use crate::store::StoreError;

#[test]
fn a_full_disk_refuses_new_mail_and_still_finishes_old() {
    let mut world = World::new(1, Defect::None);
    world.settings.0 = SegmentSettings { segment_octets: 32_768, ballast_octets: 131_072 };
    world.open();
    let disk = world.disk.clone();
    let writer = world.writer.as_mut().expect("open");
    let mail = |key: [u8; 2], octets| {
        let mut batch = Batch::new();
        batch.insert(key, "", Some(NewBody::Octets(vec![1; octets].into())));
        batch
    };
    let result = |octets| {
        let mut batch = Batch::new();
        batch.put(vec![b'x'; 90], vec![0; octets]);
        batch
    };
    let sizes = |writer: &Writer| {
        let names = disk.list("log").expect("lists");
        let ballast = names.iter().filter(|name| name.starts_with("log/ballast")).count();
        (ballast, writer.sizes().0.len())
    };
    let fill = || disk.plan(disk.operations(), Fault::Full);
    let is_full = |done: Result<_, StoreError>| matches!(done, Err(StoreError::Full));
    writer.commit(&[&mail(*b"m1", 20_000)], false).expect("commits");
    fill();
    assert!(is_full(writer.commit(&[&mail(*b"m2", 20_000)], false)));
    fill();
    assert!(is_full(writer.commit(&[&mail(*b"m3", 1)], false)), "the rest of the segment is not for mail");
    writer.commit(&[&result(100)], true).expect("there is a rest");
    assert_eq!(sizes(writer), (8, 1));
    fill();
    writer.commit(&[&result(3_000)], true).expect("the ballast makes room");
    assert_eq!(sizes(writer), (7, 2));
    fill();
    assert!(is_full(writer.commit(&[&mail(*b"m3", 1)], false)), "the room is not for mail");
    writer.commit(&[&result(100)], true).expect("there is a rest");
    assert_eq!(sizes(writer), (7, 2));
    writer.commit(&[&mail(*b"m3", 1)], false).expect("there is room again");
    assert_eq!(sizes(writer), (8, 3));
}

#[test]
fn a_husk_of_a_ballast_is_replaced() {
    let mut world = World::new(1, Defect::None);
    world.settings.0.ballast_octets = 65_536;
    // what a power cut may leave: the name without the room
    world.disk.create("log/ballast-0", 0).expect("made");
    world.open();
    let mut batch = Batch::new();
    batch.insert(*b"m1", "", None);
    world.writer.as_mut().expect("open").commit(&[&batch], false).expect("commits");
    let ballast = world.disk.open("log/ballast-0").expect("is there");
    assert_eq!(ballast.len_octets().expect("has a length"), 65_536 / 8);
}
