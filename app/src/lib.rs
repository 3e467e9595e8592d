//! Acts on registries: the library behind the binary `clean-registry`.
//!
//! The deeds are [`survey`], [`apply`] and [`collect`]; [`job`] strings them together with what
//! [`clean_registry_core`] decides between them. They act on a [`registry`] over HTTP and on the [`runtime`] its process
//! lives in, and remember in [`state`]. The [`cli`] resolves what the user says, once.

pub mod age;
pub mod apply;
pub mod cases;
pub mod cli;
pub mod collect;
pub mod config;
pub mod consent;
pub mod context;
pub mod demo;
pub mod failure;
pub mod gc;
pub mod in_use;
pub mod interrupt;
pub mod job;
pub mod leftovers;
pub mod limits;
pub mod looking;
pub mod nearest;
pub mod progress;
pub mod pulls;
pub mod registry;
pub mod report;
pub mod runtime;
pub mod scan;
pub mod secret;
pub mod setting;
pub mod state;
pub mod storage;
pub mod survey;
