//! The program, run as its users run it, on registries 2.8 and 3.1.1 and on those this crate plays: whatever state a
//! registry is in, what must stay pulls whole afterwards, and what must go is gone.

#[path = "../support/container.rs"]
mod container;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/push.rs"]
mod push;
#[path = "../support/registry.rs"]
mod registry;

mod closed;
mod collect;
mod crash;
mod fate;
mod faults;
mod nasty;
mod race;
mod scene;
mod stored;
