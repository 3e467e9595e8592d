//! The program on registries that are not Distribution's: two real ones, which are not ours either, and the others played back
//! from what their vendors document. docs/registries.md says which is which.

#[path = "../support/container.rs"]
#[expect(dead_code, reason = "no registry here is in a container")]
mod container;
#[path = "../support/program.rs"]
#[expect(dead_code, reason = "not all of it is for these tests")]
mod program;
#[path = "../support/push.rs"]
#[expect(dead_code, reason = "not all of it is for these tests")]
mod push;
#[path = "../support/registry.rs"]
#[expect(dead_code, reason = "of it only the place for small files is used here")]
mod registry;

mod listings;
mod played;
mod real;
mod referrers;
mod vendors;
