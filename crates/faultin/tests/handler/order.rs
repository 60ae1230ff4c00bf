//! The order in which handlers are called, for every order of installation.

use crate::Ends;
use crate::child::{self, SIGNALS, status_is};
use crate::foreign::{self, A, B, C};

pub(crate) const SCENARIOS: &[crate::Scenario] = &[("order", play)];

/// What happens to a fault that is not this crate's: the handlers called, in order, and whether the last one repaired it.
#[derive(Clone, Copy)]
enum Meets {
    /// These; the last one had no predecessor and repaired the memory.
    Repair(&'static str),
    /// These, and then the default action.
    Default(&'static str),
}
use Meets::{Default, Repair};

/// One row: the steps, the resulting status, and what happens to a fault that is not this crate's.
///
/// `A`, `B`, `C`: that handler installs itself and remembers the action that it replaced, forgetting an earlier one; `a`,
/// `b`, `c`: it restores that action. `O`: `install()`, `H`: `reinstall()`, `R`: `raise_to_top()`, `D`: the default action
/// is set, `G`: "ignore".
const ROWS: &[(&str, &str, Meets)] = &[
    // Each once, in every order.
    ("O", "Direct", Default("")),
    ("A O", "Direct", Repair("A")),
    ("O A", "Below", Default("A")),
    ("A B O", "Direct", Repair("BA")),
    ("B A O", "Direct", Repair("AB")),
    ("A O B", "Below", Repair("BA")),
    ("B O A", "Below", Repair("AB")),
    ("O A B", "Below", Default("BA")),
    ("O B A", "Below", Default("AB")),
    // Twice. A handler that installs itself again forgets its earlier predecessor: the chain ends there.
    ("O O", "Direct", Default("")),
    ("A O O", "Direct", Repair("A")),
    ("A O A", "Below", Default("A")),
    ("O A O", "Below", Default("A")),
    ("O A H", "Below", Default("A")),
    ("A O B O", "Below", Repair("BA")),
    ("A O B H", "Below", Repair("BA")),
    ("A O B A", "Below", Default("AB")),
    // Without this crate these two would call each other endlessly: A was B's predecessor.
    ("A B O A", "Below", Default("ABA")),
    ("A B O B", "Below", Default("B")),
    ("B O A B", "Below", Default("BA")),
    // Raised above others.
    ("R", "Direct", Default("")),
    ("A R", "Direct", Repair("A")),
    ("A O R", "Direct", Repair("A")),
    ("O A R", "Direct", Default("A")),
    ("A O A R", "Direct", Default("A")),
    ("A O B R", "Direct", Repair("BA")),
    ("A O R B", "Below", Repair("BA")),
    ("A O B R R", "Direct", Repair("BA")),
    ("A O B R A", "Below", Default("AB")),
    ("A O B R B", "Below", Repair("BA")),
    ("A O B R B R", "Direct", Repair("BA")),
    ("A O B A R", "Direct", Default("AB")),
    ("O A R B R", "Direct", Default("BA")),
    ("A O B R C R", "Direct", Repair("CBA")),
    ("A O B R C R B R", "Direct", Repair("BCA")),
    ("A O B R C R B", "Below", Repair("BCA")),
    ("A R B R C R", "Direct", Repair("CBA")),
    // Removed again.
    ("O A a", "Direct", Default("")),
    ("A O B b", "Direct", Repair("A")),
    ("O A R a", "Direct", Default("")),
    ("O A R a A R", "Direct", Default("A")),
    ("A O B R b", "Direct", Repair("A")),
    ("A O B R b C R", "Direct", Repair("CA")),
    ("A O B R C R c", "Direct", Repair("BA")),
    ("A O a", "Absent", Default("")),
    ("A O a H", "Direct", Default("")),
    // Reset.
    ("O D", "Absent", Default("")),
    ("O D O", "Absent", Default("")),
    ("A O D H", "Direct", Default("")),
    ("A O D R", "Direct", Default("")),
    ("A O B R D H", "Direct", Default("")),
    ("A O B D R", "Direct", Default("")),
    ("A O D H B", "Below", Default("B")),
    ("A O D B", "Below", Repair("B")),
    ("O G", "Absent", Default("")),
    ("A O G H", "Direct", Default("")),
    ("G O", "Direct", Default("")),
    ("D O", "Direct", Default("")),
];

#[test]
fn every_order_of_installation_reaches_everybody_once_and_ends() {
    for (script, state, meets) in ROWS {
        for signal in SIGNALS {
            let (order, ends) = match meets {
                Repair(order) => (order, Ends::Well),
                Default(order) => (order, Ends::Killed(signal)),
            };
            crate::parent::check("order", &format!("{script}|{state}|{order}|{signal}"), ends);
        }
    }
}

/// Runs a row in the child.
fn play(row: &str) {
    let [script, state, order, signal] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
    child::clean_slate();
    for step in script.split(' ') {
        let both = |f: &dyn Fn(i32)| SIGNALS.into_iter().for_each(f);
        let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        let install = |who| both(&|signal| foreign::install(who, signal, flags, &[], foreign::pass_on));
        match step {
            "A" => install(A),
            "B" => install(B),
            "C" => install(C),
            "a" => both(&|signal| foreign::remove(A, signal)),
            "b" => both(&|signal| foreign::remove(B, signal)),
            "c" => both(&|signal| foreign::remove(C, signal)),
            "O" => faultin::install().unwrap(),
            "H" => faultin::signal::reinstall().unwrap(),
            "R" => faultin::signal::raise_to_top().unwrap(),
            "D" => child::clean_slate(),
            "G" => both(&|signal| _ = child::install(signal, libc::SIG_IGN, 0, &[])),
            _ => panic!("{step}"),
        }
    }
    match state {
        "Direct" => status_is!(Direct),
        "Below" => status_is!(Below),
        _ => status_is!(Absent),
    }
    let reached = state != "Absent" && script != "A O D B";
    if reached {
        child::ours_is_recovered();
    }
    foreign::forget();
    let forwarded = faultin::signal::counters().forwarded;
    let signal = signal.parse().unwrap();
    if !repairs(script) {
        println!("calls: {order}");
        child::dies_of_foreign_fault(signal);
    }
    child::foreign_fault(signal);
    assert_eq!(foreign::order(), order);
    if reached {
        assert_eq!(faultin::signal::counters().forwarded - forwarded, 1, "counted once, however often it passes");
        child::ours_is_recovered();
    }
}

/// Whether the row ends in a repair.
fn repairs(script: &str) -> bool {
    ROWS.iter().any(|(s, _, meets)| *s == script && matches!(meets, Repair(_)))
}
