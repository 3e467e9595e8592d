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
#[expect(dead_code, reason = "these tests look at the bucket through the program's own eyes")]
#[path = "../support/s3.rs"]
mod s3;
#[expect(dead_code, reason = "nothing else ends a server")]
#[path = "../support/server.rs"]
mod server;

mod bucket;
mod closed;
mod collect;
mod contained;
mod crash;
mod fate;
mod faults;
mod nasty;
mod race;
mod scene;
mod stored;
