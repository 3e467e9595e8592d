//! A small registry of our own, to show and to test: a server, something to put into it, and its collector.

pub mod builder;
pub mod pull;
pub mod sample;
pub mod server;
pub mod store;
pub mod sweep;
