//! Numbers are those of the table of scenarios in FACTS section 8.

mod broken;
mod grace;
mod in_use;
mod late;
mod reached;
mod tidy;
mod untagged;
mod world;
