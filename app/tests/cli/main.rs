//! What its users see: the built program, sealed off from this machine, by its exit codes and all it prints.

mod stage;

mod doing;
mod in_use;
mod interrupted;
mod looking;
mod refusing;
mod secrets;
mod storage;
mod surroundings;
mod usage;
