//! Every actor panics at every message that it handles: none of that strands mail or sends it twice.

use super::*;

/// Worlds in which it is seen what actors handle, and in which they panic there.
const LOOKED_AT: u64 = 12;
const SEEDS_MAX: u64 = 20;
/// So many panics at each kind of message are enough.
const STRUCK_LEAST: u64 = 4;

#[test]
fn an_actor_may_panic_at_any_message() {
    // which worlds have it
    let mut kinds: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for seed in 0..LOOKED_AT {
        let mut world = World::new(seed);
        world.counts_kinds = true;
        run_world(&mut world, Wrong::Nothing).expect("goes well");
        world.kinds.into_keys().for_each(|kind| kinds.entry(kind).or_default().push(seed));
    }
    for actor in ["manager", "domain", "path"] {
        let handled = kinds.keys().filter(|kind| kind.starts_with(actor)).count();
        assert!(handled >= 10, "{actor}s handle {handled} kinds of messages: {kinds:?}");
    }
    let mut panics = 0;
    for (kind, seeds) in &kinds {
        let mut struck = 0;
        for (seed, at) in seeds.iter().map(|seed| (*seed, 1)).chain((0..SEEDS_MAX).map(|seed| (seed, 3))) {
            let mut world = World::new(seed);
            world.panics_at = Some((kind.clone(), at));
            if let Err(why) = run_world(&mut world, Wrong::Nothing) {
                panic!("panic {at} at {kind}, seed {seed}: {why}");
            }
            struck += u64::from(world.had_panic_at_kind);
            if struck >= STRUCK_LEAST {
                break;
            }
        }
        assert!(struck > 0, "{kind} was never struck");
        panics += struck;
    }
    println!("{} kinds of messages, {panics} worlds with panics there", kinds.len());
}
