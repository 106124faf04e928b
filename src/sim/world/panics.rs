//! Every actor panics at every message that it handles: none of that strands mail or sends it twice.

use super::*;

/// Worlds in which it is seen what actors handle, and in which they panic there.
const LOOKED_AT: u64 = 12;
const SEEDS_MAX: u64 = 60;
/// So many panics at each kind of message are enough.
const STRUCK_LEAST: u64 = 4;

#[test]
fn an_actor_may_panic_at_any_message() {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..LOOKED_AT {
        let mut world = World::new(seed);
        run_world(&mut world, Wrong::Nothing).expect("goes well");
        world.kinds.into_iter().for_each(|(kind, count)| *kinds.entry(kind).or_default() += count);
    }
    for actor in ["manager", "domain", "path"] {
        let handled = kinds.keys().filter(|kind| kind.starts_with(actor)).count();
        assert!(handled >= 10, "{actor}s handle {handled} kinds of messages: {kinds:?}");
    }
    let mut panics = 0;
    for kind in kinds.keys() {
        let mut struck = 0;
        for seed in 0..SEEDS_MAX {
            for at in [1, 3] {
                let mut world = World::new(1000 * at + seed);
                world.panics_at = Some((kind.clone(), at));
                if let Err(why) = run_world(&mut world, Wrong::Nothing) {
                    panic!("panic {at} at {kind}, seed {}: {why}", 1000 * at + seed);
                }
                struck += u64::from(world.had_panic);
            }
            if struck >= STRUCK_LEAST {
                break;
            }
        }
        assert!(struck > 0, "{kind} was never struck");
        panics += struck;
    }
    println!("{} kinds of messages, {panics} worlds with panics there", kinds.len());
}
