//! The small objects, which an exploration can afford, have the same results as the full ones.

use faultin_audit::caller::Halt;
use faultin_audit::expect::{DEADLOCK, Ends};
use faultin_audit::log::{Log, Stuck};
use faultin_audit::user::{Scale, SimUser, User};
use faultin_audit::{Memory, Scenario, Variant, callers};

#[test]
fn a_small_object_ends_as_the_full_one() {
    for caller in callers::all() {
        let Some(job) = caller.job else { continue };
        for expectation in Variant::ALL.into_iter().flat_map(|variant| caller.expectations(variant)) {
            if expectation.scenario.is_not_on(Memory::Sim).is_some() {
                continue;
            }
            let mapped = caller.mapped.filter(|_| expectation.scenario.is_of_mappings());
            let job = mapped.map_or(job, |mapped| mapped.simulated(expectation.scenario));
            let object = job.object(Memory::Sim, Scale::Small);
            assert!(object.len() <= 32, "{}: {} bytes", caller.name, object.len());
            let cell = format!("{} {:?} {:?}", caller.name, expectation.variant, expectation.scenario);
            let user = SimUser::new(&object, expectation.scenario, Scale::Small).unwrap();
            let mut log = Log::of(&user);
            if expectation.scenario == Scenario::Evicted {
                log = log.after_fault_in(|| user.evict());
            }
            if expectation.scenario == Scenario::OwnFolio {
                log = log.watching(|| 0, || user.waits());
            }
            let ended = job.on_sim(expectation.variant, &user, &mut log);
            assert!(log.held().is_empty(), "{cell}");
            match (ended, expectation.ends) {
                (Ok(_), Ends::Deadlock) if expectation.scenario == Scenario::OwnFolio => {
                    assert!(log.waited_under_lock(), "{cell}");
                }
                (Err(Halt::Stuck(Stuck::Deadlock)), Ends::Deadlock) => {}
                (Err(Halt::Stuck(Stuck::Deadlock)), Ends::OneOf([DEADLOCK])) => {}
                (Ok(end), Ends::With(status, _)) => {
                    assert_eq!(
                        (end.status, end.product, log.rounds()),
                        (status, Ok(()), expectation.attempts),
                        "{cell}"
                    );
                }
                (Ok(end), Ends::OneOf(statuses)) => {
                    assert!(statuses.contains(&end.status) && end.product.is_ok(), "{cell}: {end:?}");
                }
                (Err(Halt::Stuck(Stuck::Livelock)), Ends::Never) => {}
                (other, expected) => panic!("{cell}: {other:?}, expected {expected:?}"),
            }
        }
    }
}

#[test]
fn every_caller_ends_as_expected_beside_an_adversary() {
    for caller in callers::all() {
        let Some(job) = caller.job else { continue };
        let object = job.object(Memory::Sim, Scale::Small);
        for variant in Variant::ALL {
            let expectation = caller.expectation(variant, Scenario::Remapping).unwrap();
            let Ends::OneOf(statuses) = expectation.ends else {
                panic!("{}: one end beside an adversary", caller.name)
            };
            let done = SimUser::beside_adversary(&object, Scenario::Remapping, Scale::Small, |user| {
                let mut log = Log::of(user).beside_adversary();
                let ended = job.on_sim(expectation.variant, user, &mut log).map_err(|halt| format!("{halt:?}"));
                assert!(log.held().is_empty(), "{}", caller.name);
                let end = ended.unwrap_or_else(|halt| panic!("{} {:?}: {halt}", caller.name, expectation.variant));
                assert!(statuses.contains(&end.status) && end.product.is_ok(), "{}: {end:?}", caller.name);
                Ok(true)
            });
            done.unwrap();
        }
    }
}
